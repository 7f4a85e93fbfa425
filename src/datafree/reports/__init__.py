"""What a person learns from a run."""
