"""Who trains whom: network files, names to networks, and what can be read inside one."""
