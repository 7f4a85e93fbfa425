"""Several runs side by side: one row a fact, one column a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datafree.core.files import write_text
from datafree.engine.record import read_record
from datafree.reports.charts import curves
from datafree.reports.labels import label, number
from datafree.reports.page import pictures_of, render

COSTS = ("rounds", "images", "teacher_queries", "cpu_s", "wall_s", "peak_mb")  # results that each run has
Facts = dict[str, str]  # of one run, by their names as a person would write them


def facts(folder: Path) -> Facts:
    """What distinguishes a run: networks, method, how good its student is, and what it cost. Raises as `read_record` does."""
    record = read_record(folder / "run.json")
    identity, results = record["identity"], record.get("results", {})
    found: Facts = {
        "student": str(identity["student"]["architecture"]),
        "method": str(identity["method"]["name"]),
        "seed": str(identity["seed"]),
        "precision": str(identity["precision"]),
        "status": str(record.get("status", "")),
    }
    for name in ("student", "teacher"):
        if name in record:
            found[f"weights of the {name}"] = number(record[name]["parameters"])
    if "provenance" in record:
        found["data-free"] = "yes" if record["provenance"]["data_free"] else "no"
    return found | {label(key): _written(key, results) for key in _shown(results)}


def table(runs: Sequence[Path]) -> list[list[str]]:
    """Rows of cells: the first has the runs' names, each other a fact of all of them; a fact that a run lacks is empty."""
    if len(set(runs)) < 2:
        raise ValueError("There is nothing to compare; name two runs or more.")
    found = [facts(run) for run in runs]
    names = list(dict.fromkeys(name for each in found for name in each))
    return [["run", *_names(runs)], *([name, *(each.get(name, "") for each in found)] for name in names)]


def lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines of text, columns aligned: the first to the left, those of the runs to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def write_comparison(runs: Sequence[Path], page: Path) -> None:
    """Write the table, and each run's curves and last images, as one page that needs nothing beside it."""
    head, *rows = table(runs)
    shown = [
        (name, curves(run / "log.csv", "round"), pictures_of(run / "images")["seen"][-1:])
        for name, run in zip(head[1:], runs, strict=True)
    ]
    write_text(page, render("comparison.html.j2", {"head": head, "rows": rows, "shown": shown}))


def _names(runs: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths by which the runs differ."""
    for parts in range(1, max(len(run.absolute().parts) for run in runs) + 1):
        names = ["/".join(run.absolute().parts[-parts:]) for run in runs]
        if len(set(names)) == len(runs):
            return names
    return [str(run) for run in runs]


def _shown(results: Mapping[str, Any]) -> list[str]:
    scores = [key for key in results if key.endswith(("accuracy", "miou", "agreement"))]
    return [*scores, *(key for key in COSTS if key in results)]


def _written(key: str, results: Mapping[str, Any]) -> str:
    return number(results[key], label(key))
