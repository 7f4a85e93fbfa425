"""What a person learns from a run: its record, page, scores and pictures."""
