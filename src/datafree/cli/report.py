"""The command `datafree report`."""

from pathlib import Path

import datafree
from datafree.core.terminal import show


def report(run: Path) -> None:
    """Write the page of a finished run anew.

    Args:
        run: The run's folder.
    """
    show(f"report: {datafree.report(run)}")
