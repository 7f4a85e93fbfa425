"""The command line: one command, one file; each makes one public call, and prints what a person wants to know."""

from datafree.cli.app import main

__all__ = ["main"]
