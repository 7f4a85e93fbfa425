"""Teachers and students: network files, architectures by name, and values read inside a network."""
