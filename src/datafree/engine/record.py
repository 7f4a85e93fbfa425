"""What earlier processes left in a run's folder, `run.json` and checkpoints, read as foreign files: checked, without code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datafree.core.pickles import read_torch
from datafree.core.runtime import PRECISIONS
from datafree.core.settings import Option, explain, first_line
from datafree.core.shortages import is_out_of_memory

FORMAT = 2  # of run.json; format 1 had other names of settings
STUDENT = "student.safetensors"  # file of the finished student
PAGE = "report.html"
EVALUATION = "evaluation.png"  # in images/: real images with both networks' masks, for segmentation
JUDGED = EVALUATION  # the name that reports/page.py imports
MOST_BYTES = 2**24  # of a run.json
DEEPEST = 32  # level of nesting in a run.json

Number = int | float | None
Table = dict[str, Number | str]


class _Entries(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Weights(_Entries):
    parameters: int


class _Provenance(_Entries):
    data_free: bool
    training: str
    evaluation: str | dict[str, int | str]


class Record(_Entries):
    """The types of the entries of `run.json`; a run that has just begun has few of them."""

    format: int = 1
    status: str = "new"
    identity: dict[str, Any]
    budget: str | None = None
    auto: list[str] = Field(default_factory=list)
    source: str = ""
    command: str = ""
    task: str = ""
    machine: str = ""
    versions: dict[str, Any] = Field(default_factory=dict)
    provenance: _Provenance | None = None
    teacher: _Weights | None = None
    student: _Weights | None = None
    results: dict[str, Number | str | Table] = Field(default_factory=dict)


def read_record(file: Path) -> dict[str, Any]:
    """The record in `run.json`: an object of moderate size, whose entries have the types that a run writes.

    Raises `ValueError` for a file of other content, which is no record of a run, and `OSError` if it cannot be read.
    """
    try:
        if not file.is_file():
            raise ValueError("it is no regular file" if file.exists() else "it does not exist")
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES / 2**20:.0f} MiB")
        record = json.loads(file.read_text(encoding="utf-8"))
        if _depth(record) > DEEPEST:
            raise ValueError("it is nested too deeply")
        Record.model_validate(record)
    except ValidationError as error:
        raise ValueError(f"{file} is not the record of a run ({explain(error)}); name a new folder.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not the record of a run ({first_line(error)}); name a new folder.") from error
    assert isinstance(record, dict)
    return record


def is_finished(path: Path) -> bool:
    """Whether the folder `path` holds a finished run."""
    try:
        record = read_record(path / "run.json")
        return record["status"] == "finished" and (path / STUDENT).exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def earlier_plan(path: Path, budget: str) -> dict[str, Any] | None:
    """The plan of the run in the folder `path` if it was started with this budget, else None."""
    try:
        record = read_record(path / "run.json")
        return dict(record["identity"]["plan"]) if record["budget"] == budget else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def chosen_before(path: Path) -> dict[str, Any] | None:
    """The record of the run in `path`, if its recipe was chosen by itself."""
    try:
        record: dict[str, Any] = read_record(path / "run.json")
        known = record["auto"] and record["budget"] and record["identity"]["precision"] in PRECISIONS
        return record if known else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def taken_before(path: Path, request: str) -> tuple[str, dict[str, Option], str] | None:
    """Architecture and options of the student that the run in `path` took for the size `request`, and why."""
    try:
        record: dict[str, Any] = read_record(path / "run.json")
        student = record["identity"]["student"]
        architecture, options = str(student["architecture"]), dict(student.get("options", {}))
        plain = all(value is None or isinstance(value, bool | int | float | str) for value in options.values())
        return (architecture, options, str(record["student_choice"])) if plain and student["request"] == request else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one dict, with keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def read_checkpoint(file: Path) -> dict[str, Any]:
    """What `RunDir.save` wrote, on the CPU, read with `weights_only=True`.

    Raises `ValueError` for a file that is no checkpoint, or would run code, or is packed to unpack to more than its size.
    """
    try:
        if not file.is_file():
            raise ValueError("it is no regular file")
        state = read_torch(file)
        if not (
            isinstance(state["parts"], dict)
            and isinstance(state.get("rounding", {}), dict)
            and all(type(state[name]) is int and 0 <= state[name] < 2**53 for name in ("round", "saves"))
            and all(isinstance(value, int | float) for value in state["seconds"].values())
        ):
            raise ValueError("its entries are of other types than those of a run")
    except (OSError, MemoryError):  # not the file is at fault
        raise
    except Exception as error:  # foreign bytes make torch's reader stumble in any way
        if is_out_of_memory(error):
            raise
        raise ValueError(spoilt(file, error)) from error
    return dict(state)


def spoilt(file: Path, error: BaseException) -> str:
    """The sentence for a checkpoint that a run cannot take up, because of `error`."""
    return f"{file} is not a checkpoint of this run ({first_line(error)}); delete it to begin the run anew."


def _depth(tree: object) -> int:
    """Levels of nesting in `tree`, counted up to `DEEPEST` + 1."""
    level, depth = [tree], 0
    while level and depth <= DEEPEST:
        groups = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level, depth = [child for group in groups for child in group], depth + 1
    return depth
