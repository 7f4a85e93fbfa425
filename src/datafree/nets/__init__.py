"""Networks of our own writing."""
