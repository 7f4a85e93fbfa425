"""State dicts in files, as people save them."""
