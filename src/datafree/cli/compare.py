"""The command `datafree compare`."""

import json
from pathlib import Path

import datafree
from datafree.cli.arguments import AsJson
from datafree.core.terminal import show
from datafree.reports.comparison import lines


def compare(*runs: Path, page: Path | None = None, as_json: AsJson = False) -> None:
    """Put runs side by side, in the terminal and on a page.

    Args:
        runs: Folders of two runs or more.
        page: HTML file to write, with the table, and each run's curves and last images.
        as_json: Print JSON, one object a run.
    """
    rows = datafree.compare(runs, page=page)
    if as_json:
        show(
            json.dumps(
                [dict(zip([row[0] for row in rows], column, strict=True)) for column in list(zip(*rows, strict=True))[1:]]
            )
        )
        return
    show(*lines(rows))
    if page:
        show(f"page: {page}")
