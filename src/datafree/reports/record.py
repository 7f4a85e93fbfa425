"""The record of a run in `run.json`: versions, command and real data, and its results as text."""

import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from datafree.core.settings import first_line
from datafree.data.labelled import Labelled
from datafree.engine.record import PAGE, STUDENT, read_record


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    found = {"python": platform.python_version()}
    for package in ("datafree", "torch", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def command() -> str:
    """The command line of this process."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def provenance(training: str, evaluation: Labelled | None) -> dict[str, Any]:
    """The real data that the run used, for training and for evaluation; `data_free` is true if it trained without any."""
    used: dict[str, Any] | str = "none"
    if evaluation:
        used = {"data": evaluation.source, "images": len(evaluation.labels), "sha256": evaluation.fingerprint()}
    return {"data_free": training == "none", "training": training, "evaluation": used}


def outcome(folder: Path) -> list[str]:
    """The results of a finished run as lines for the terminal: files, wall time of the phases, accuracy or mIoU.

    Raises `ValueError` if `folder` holds no finished run.
    """
    try:
        found = read_record(folder / "run.json")
        return _outcome(folder, found["results"]) + [f"  {line}" for line in found.get("estimate", {}).get("sentences", [])]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds no finished run ({first_line(error)}); name a new folder.") from error


def _outcome(folder: Path, results: dict[str, Any]) -> list[str]:
    lines = [
        f"finished: {folder / STUDENT} after {results['rounds']} rounds, {results['wall_s']:.0f} s",
        f"  report: {folder / PAGE}",
    ]
    phases = [name for name in results if name.endswith("_s") and name not in ("wall_s", "cpu_s")]
    if phases:
        lines += ["  of which " + ", ".join(f"{name[:-2].replace('_', ' ')} {results[name]:.0f} s" for name in phases)]
    for name, shown in (("accuracy", ""), ("miou", "mIoU: ")):
        if f"student_{name}" in results:
            teacher, student = results[f"teacher_{name}"], results[f"student_{name}"]
            lines += [f"{shown}teacher {teacher:.2f} %  student {student:.2f} % (of the last round)"]
    return lines
