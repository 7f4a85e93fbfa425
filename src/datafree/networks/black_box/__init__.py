"""Teachers of which only the answers are known: a function, or a command."""
