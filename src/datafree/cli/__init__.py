"""The command line: one file a command, which makes one public call and prints its result."""

from datafree.cli.app import main

__all__ = ["main"]
