"""A run's folder: the run that it belongs to, its record and its checkpoints."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from filelock import FileLock, Timeout

from datafree.core.distributed import barrier, is_main, rank
from datafree.core.files import is_temporary, remove, remove_leftovers, replace_atomically, write_text
from datafree.core.state import Stateful, load_checked
from datafree.engine.progress import print_line
from datafree.engine.record import FORMAT, flatten, is_finished, read_checkpoint, read_record, spoilt

ANSWERS = ".answers"  # ending of files of answers of a black box
SAVE_EVERY = 60.0  # most time between two checkpoints of work that saves by the clock, seconds
SAVE_COST = 20  # such work may save as soon as this many times the duration of the last save has passed


class RunDir:
    """The folder of one run: `run.json`, `log.csv`, `checkpoint.pt`, `images/`, `student.safetensors`.

    `identity` holds everything that decides the student: settings, teacher, architecture, seed. Raises `ValueError` if the
    folder holds a run with another identity, or other files, or is in use. The lock is released at the end of a `with` block.
    With several processes rank 0 writes the folder, and each other rank has its own checkpoint beside that of rank 0.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any]):
        self.path = Path(path)
        self.identity = json.loads(json.dumps(identity))  # as run.json gives it back: tuples become lists
        self.record: dict[str, Any] = {"format": FORMAT, "status": "new", "identity": self.identity}
        self.saves = 0
        self._saved_at, self._save_took = time.monotonic(), 0.0
        if is_main():
            self._open()
        barrier()  # the other ranks read the folder after rank 0 has created it
        if not is_main():
            self._refuse_foreign()
        barrier()

    def _open(self) -> None:
        self._refuse_foreign()
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / ".lock").is_symlink():  # older versions of filelock empty the file that it leads to
            raise ValueError(f"{self.path / '.lock'} is a link, which no run makes; name a new folder.")
        self._lock = FileLock(self.path / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(f"Another process is writing {self.path}; wait for it, or name another folder.") from error
        self._lock_file = _inode(self.path / ".lock")
        remove_leftovers(self.path, self.images)

    @property
    def images(self) -> Path:
        """Folder of the image grids."""
        return self.path / "images"

    @property
    def log(self) -> Path:
        """File of the log, one line every `log_every` rounds."""
        return self.path / "log.csv"

    @property
    def answers(self) -> Path:
        """File of what a black box answered to this process, which is needed until the run has finished."""
        return self.path / f"black-box-{rank() + 1}{ANSWERS}"

    def remove_answers(self) -> None:
        """Delete the answers of a black box to all processes, which a finished run does not need."""
        for file in self.path.glob(f"*{ANSWERS}"):
            file.unlink(missing_ok=True)

    @property
    def finished(self) -> bool:
        """Whether the folder holds a finished run."""
        return is_finished(self.path)

    def write(self, entries: Mapping[str, Any]) -> None:
        """Add `entries` to the record, and write `run.json`. Raises `OSError` if it cannot be written."""
        self.record |= entries
        if is_main():
            self.refuse_deleted()
            write_text(self.path / "run.json", json.dumps(self.record, indent=2) + "\n")

    def refuse_deleted(self) -> None:
        """Raise `OSError` if the folder was deleted since it was opened, or if another one has its name."""
        there = self.path / ".lock" if is_main() else self.path  # other ranks have no lock, and no record while they measure
        if not there.exists() or (is_main() and _inode(there) != self._lock_file):
            raise OSError(
                f"The folder {self.path} was deleted while this process was writing it, so the process stops without saving; "
                "run the same command again to begin anew."
            )

    @property
    def due(self) -> bool:
        """Whether to save now: a minute has passed since the last save, or so much time that saving costs little of it."""
        return time.monotonic() - self._saved_at > min(SAVE_EVERY, SAVE_COST * self._save_took)

    def save(self, round_: int, seconds: Mapping[str, float], parts: Mapping[str, Stateful]) -> None:
        """Write the state of `parts` between rounds, before round `round_`, atomically.

        Rank 0 writes last: its file says which checkpoints of the other ranks belong to it. Raises `OSError` if a file cannot
        be written or the folder was deleted.
        """
        self.refuse_deleted()
        began = time.monotonic()
        self.saves += 1
        state = {
            "round": round_,
            "saves": self.saves,
            "seconds": dict(seconds),
            "rounding": _rounding(),
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
            self._remove_superseded()
        self._saved_at = time.monotonic()
        self._save_took = self._saved_at - began

    def _remove_superseded(self) -> None:
        """Delete the checkpoints of this rank, which is not rank 0, that belong to another save than the last one."""
        for path in self.path.glob(f"checkpoint-{rank() + 1}-*.pt"):
            if path != self._checkpoint(self.saves):
                path.unlink()

    def remove(self) -> None:
        """Delete the folder, whose files are no longer needed; a kill on the way leaves a folder that the same line takes up.

        The checkpoint goes first, since it needs the other files, and the record last, since it says whose files they are.
        """
        (self.path / "checkpoint.pt").unlink(missing_ok=True)
        for path in self.path.iterdir():
            if path.name not in ("run.json", ".lock"):
                remove(path)
        (self.path / "run.json").unlink(missing_ok=True)
        self._lock.release()
        remove(self.path)

    @property
    def untouched(self) -> bool:
        """Whether nothing was made in the folder that a further line could go on from."""
        return all(path.name in (".lock", "run.json", "log.csv") or is_temporary(path) for path in self.path.iterdir())

    def _checkpoint(self, saves: int) -> Path:
        return self.path / (f"checkpoint-{rank() + 1}-{saves}.pt" if rank() else "checkpoint.pt")

    def restore(self, parts: Mapping[str, Stateful]) -> tuple[int, dict[str, float]]:
        """Load the last checkpoint into `parts`; returns the next round and the seconds spent, (0, {}) without a checkpoint.

        Raises `ValueError` for a checkpoint that is not of this run.
        """
        file = self.path / "checkpoint.pt"
        if not file.exists():
            return 0, {}
        state = read_checkpoint(file)
        self.saves = state["saves"]
        self._tell_other_rounding(state.get("rounding", {}))
        if not is_main():
            file = self._checkpoint(self.saves)
            state = read_checkpoint(file)
            self._remove_superseded()
        for name, part in parts.items():
            try:
                load_checked(part, state["parts"][name])
            except Exception as error:  # each part meets a foreign state in its own way
                raise ValueError(spoilt(file, error)) from error
        return state["round"], state["seconds"]

    def _tell_other_rounding(self, before: Mapping[str, str]) -> None:
        here = _rounding()
        changed = [f"{name} {was} (here {here[name]})" for name, was in before.items() if here.get(name, was) != was]
        print_line(
            f"The checkpoint in {self.path} was made with {', '.join(changed)}: the result may differ in its last bits from "
            "that of a run without a break. For the same bits, continue as it was begun.",
            quiet=not changed or not is_main(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if is_main():
            self._lock.release()

    def _refuse_foreign(self) -> None:
        file = self.path / "run.json"
        if not file.exists():
            # A kill before the first whole run.json leaves the lock and a part of that file.
            if self.path.exists() and not all(map(_comes_first, self.path.iterdir())):
                raise ValueError(f"{self.path} holds files that do not belong to a run; name a new folder.")
            return
        record = read_record(file)
        there, version = flatten(record["identity"]), record.get("format", 1)
        if version != FORMAT:
            raise ValueError(
                f"{self.path} holds a run of format {version}, and this version of datafree writes format {FORMAT}, with other "
                "names of settings. Name a new folder, or continue with the version that started the run."
            )
        self.record = record
        here = flatten(self.identity)
        changed = [key for key in {**there, **here} if there.get(key) != here.get(key)]
        if changed:
            key, more = changed[0], f", and {len(changed) - 1} more differ" if changed[1:] else ""
            was, now = (settings.get(key, "unknown") for settings in (there, here))  # another version may lack this setting
            raise ValueError(
                f"{self.path} holds another run: {key} is {was} there and {now} here"
                f"{more}. Name a new folder, or give the same settings."
            )


def _comes_first(path: Path) -> bool:
    """Whether a run makes this file or folder before its record."""
    return path.name in (".lock", "images") or path.suffix == ANSWERS or is_temporary(path)


def _inode(file: Path) -> tuple[int, int]:
    """Device and number of a file, which no other file has while this one is open."""
    status = file.stat()
    return status.st_dev, status.st_ino


def _rounding() -> dict[str, str]:
    """What decides how sums on a CPU are rounded, so that a run continued with another of these gives other last bits."""
    return {
        "threads": str(torch.get_num_threads()),
        "torch": str(torch.__version__),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
