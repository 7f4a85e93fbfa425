"""The student's training loop, and what it asks of a method."""
