"""The public verbs, one file each; every command makes one such call."""
