"""A run's folder: whose it is, its checkpoints, and how a run is taken up again."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from filelock import FileLock, Timeout

from datafree.core.distributed import barrier, is_main, rank
from datafree.core.files import replace_atomically, write_text
from datafree.core.state import Stateful

FORMAT = 2  # of run.json; 1 had other names of settings
STUDENT = "student.safetensors"  # the finished student's file in a run's folder
PAGE = "report.html"
JUDGED = "evaluation.png"  # in its images: real ones, where each pixel is judged


def is_finished(path: Path) -> bool:
    """Whether a run that came to its end lies in `path`."""
    try:
        record = json.loads((path / "run.json").read_text(encoding="utf-8"))
        return record["status"] == "finished" and (path / STUDENT).exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def planned(path: Path, budget: str) -> dict[str, Any] | None:
    """The plan of the run in `path`, if it was begun with this budget."""
    try:
        record = json.loads((path / "run.json").read_text(encoding="utf-8"))
        return dict(record["identity"]["plan"]) if record["budget"] == budget else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


class RunDir:
    """The folder of one run: `run.json`, `log.csv`, `checkpoint.pt`, `images/`, `student.safetensors`.

    `identity` is what makes a run this run (settings, teacher, student, seed). A folder holding another run, or anything
    else, or one that another run is writing, is refused with `ValueError`. Use it in a `with` block, which holds the
    folder's lock. Of several processes that work together the main one writes it; each of the others has a checkpoint of its
    own beside the main one's.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any]):
        self.path = Path(path)
        self.identity = json.loads(json.dumps(identity))  # as it will be read back
        self.record: dict[str, Any] = {"format": FORMAT, "status": "new", "identity": self.identity}
        self.saves = 0
        if is_main():
            self._open()
        barrier()  # the others read what the main process found right
        if not is_main():
            self._refuse_foreign()
        barrier()

    def _open(self) -> None:
        self._refuse_foreign()
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(f"Another process is running in {self.path}; wait for it, or name another folder.") from error

    @property
    def images(self) -> Path:
        """Where the image grids lie."""
        return self.path / "images"

    @property
    def log(self) -> Path:
        """The log, one line each few rounds."""
        return self.path / "log.csv"

    @property
    def finished(self) -> bool:
        """Whether the run that lies here came to its end."""
        return is_finished(self.path)

    def write(self, facts: Mapping[str, Any]) -> None:
        """Bring `run.json` up to date with `facts`."""
        self.record |= facts
        if is_main():
            write_text(self.path / "run.json", json.dumps(self.record, indent=2) + "\n")

    def save(self, round_: int, seconds: Mapping[str, float], parts: Mapping[str, Stateful]) -> None:
        """Write everything that must survive, as of the border before round `round_`, atomically.

        Several processes write together: the main one last, whose file says which of the others' belong to it.
        """
        self.saves += 1
        state = {
            "round": round_,
            "saves": self.saves,
            "seconds": dict(seconds),
            "parts": {name: part.state_dict() for name, part in parts.items()},
        }

        def write() -> None:
            replace_atomically(self._checkpoint(self.saves), lambda temporary: torch.save(state, temporary))

        if not is_main():
            write()
        barrier()
        if is_main():
            write()
        barrier()
        if not is_main():
            self._checkpoint(self.saves - 1).unlink(missing_ok=True)

    def _checkpoint(self, saves: int) -> Path:
        return self.path / (f"checkpoint-{rank() + 1}-{saves}.pt" if rank() else "checkpoint.pt")

    def restore(self, parts: Mapping[str, Stateful]) -> tuple[int, dict[str, float]]:
        """Take up the last checkpoint: the round to go on with and the seconds spent; (0, {}) where there is none."""
        file = self.path / "checkpoint.pt"
        if not file.exists():
            return 0, {}
        state = torch.load(file, map_location="cpu", weights_only=True)
        self.saves = state["saves"]
        if not is_main():
            state = torch.load(self._checkpoint(self.saves), map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
        return state["round"], state["seconds"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if is_main():
            self._lock.release()

    def _refuse_foreign(self) -> None:
        file = self.path / "run.json"
        if not file.exists():
            if self.path.exists() and any(p.name not in (".lock", "images") for p in self.path.iterdir()):
                raise ValueError(f"{self.path} holds something that is not a run of ours; name a new folder.")
            return
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            there, version = flatten(record["identity"]), record.get("format", 1)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is not a run.json of ours ({error}); name a new folder.") from error
        if version != FORMAT:
            raise ValueError(
                f"{self.path} holds a run of format {version}, and this version of datafree writes format {FORMAT}, with other "
                "names of settings. Name a new folder, or go on with the version that began it."
            )
        self.record = record
        here = flatten(self.identity)
        changed = [key for key in {**there, **here} if there.get(key) != here.get(key)]
        if changed:
            key, more = changed[0], f", and {len(changed) - 1} more differ" if changed[1:] else ""
            was, now = (settings.get(key, "unknown") for settings in (there, here))  # unknown to another version of ours
            raise ValueError(
                f"{self.path} holds another run: {key} is {was} there and {now} here"
                f"{more}. Name a new folder, or give the same settings."
            )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def refuse_non_finite(values: Mapping[str, float], round_: int) -> None:
    """Raise `FloatingPointError` where a noted loss is NaN or infinite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"The {name} became {value} by round {round_}; lower --plan.lr or the method's own rate, or use --precision "
                "fp32. The checkpoint before it is kept."
            )
