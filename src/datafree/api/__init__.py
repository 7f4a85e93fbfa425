"""The public functions, one file each; every command calls one of them."""
