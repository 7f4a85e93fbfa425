"""The commands, one file each: each builds arguments, makes one public call, and prints what a person wants to know."""
