"""What a run says of itself in `run.json`: who took part, what it cost, which real bytes touched it."""

import json
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from datafree.data.labelled import Labelled
from datafree.engine.folder import PAGE, STUDENT


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
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
    """Which real data touched the run; `data_free` holds where the student never saw any."""
    seen: dict[str, Any] | str = "none"
    if evaluation:
        seen = {"data": evaluation.source, "images": len(evaluation.labels), "sha256": evaluation.fingerprint()}
    return {"data_free": training == "none", "training": training, "evaluation": seen}


def outcome(folder: Path) -> list[str]:
    """The end of a run, line by line, for the terminal: files, seconds of the phases, accuracies."""
    results = json.loads((folder / "run.json").read_text(encoding="utf-8"))["results"]
    lines = [
        f"finished: {folder / STUDENT} after {results['rounds']} rounds, {results['wall_s']:.0f} s",
        f"  the page to look at: {folder / PAGE}",
    ]
    phases = [name for name in results if name.endswith("_s") and name not in ("wall_s", "cpu_s")]
    if phases:
        lines += ["  of which " + ", ".join(f"{name[:-2].replace('_', ' ')} {results[name]:.0f} s" for name in phases)]
    for name, shown in (("accuracy", ""), ("miou", "mIoU: ")):
        if f"student_{name}" in results:
            teacher, student = results[f"teacher_{name}"], results[f"student_{name}"]
            lines += [f"{shown}teacher {teacher:.2f} %  student {student:.2f} % (the last one)"]
    return lines
