"""Networks by name: whose code may build them, and within which limits."""
