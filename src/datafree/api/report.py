"""The functions `report` and `compare`: pages about finished runs, written anew or side by side."""

from collections.abc import Sequence
from pathlib import Path

from datafree.reports.comparison import table, write_comparison
from datafree.reports.page import write_report


def report(run: str | Path) -> Path:
    """Write the page of a finished run anew, from its record, log and images.

    Args:
        run: folder of the run.

    Returns:
        The page, `report.html` in that folder.

    Raises:
        ValueError: the folder holds no finished run.
        OSError: the page cannot be written.
    """
    return write_report(Path(run))


def compare(runs: Sequence[str | Path], *, page: str | Path | None = None) -> list[list[str]]:
    """Put runs side by side: networks, methods, how good the students are, and what they cost.

    Args:
        runs: folders of two runs or more, finished or not.
        page: HTML file to write, with the table, and each run's curves and last images; None: none.

    Returns:
        Rows of cells: the first has the runs' names, each other a fact and its value in each run.

    Raises:
        ValueError: a folder holds no run, or there are fewer than two.
        OSError: the page cannot be written.
    """
    folders = [Path(run) for run in runs]
    rows = table(folders)
    if page is not None:
        write_comparison(folders, Path(page))
    return rows
