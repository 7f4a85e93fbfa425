"""The run log: `log.csv`, a live line on a terminal or plain lines elsewhere, TensorBoard where asked for."""

import csv
import io
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datafree.files import write_text
from datafree.ranks import is_main


class RunLog:
    """Writes what a run says of itself. Lines after `start` are dropped: the rounds they tell of are run again. Of several
    processes only the main one writes and tells.

    `unit` is what a person calls a round. A name with a slash (`kept/3`, one of many) is written, but not told.
    """

    def __init__(
        self, path: Path, rounds: int, start: int, quiet: bool = False, tensorboard: bool = False, unit: str = "round"
    ):
        self.path, self.rounds, self.quiet, self.unit = path, rounds, quiet or not is_main(), unit
        self.rows = [row for row in _read(path) if int(row["round"]) <= start]
        self._file: io.TextIOWrapper | None = None
        self._columns: list[str] = []
        if not is_main():
            tensorboard = False
        elif self.rows:
            self._open(list(dict.fromkeys(name for row in self.rows for name in row)), self.rows)
        else:
            path.unlink(missing_ok=True)
        self._board = _board(path.parent) if tensorboard else None
        self._live = sys.stderr.isatty() and not self.quiet
        self._began, self._told = time.monotonic(), 0.0
        self._images = float(self.rows[-1].get("images", 0)) if self.rows else 0.0  # at the line before
        self._spent, self._round = 0.0, start  # seconds of this session, and round, at the line before
        self._pace: float | None = None

    def write(self, round_: int, values: Mapping[str, float]) -> None:
        """One line of the log: the round and the means since the last line."""
        if not is_main():
            return
        row = {"round": str(round_), **{name: f"{value:.8g}" for name, value in values.items()}}
        self.rows.append(row)
        if set(row) - set(self._columns):
            self._open(list(dict.fromkeys([*self._columns, *row])), self.rows)
        else:
            csv.DictWriter(self._handle(), self._columns, lineterminator="\n").writerow(row)
        self._handle().flush()
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, round_)
        self.tell(round_, values)

    def tell(self, round_: int, values: Mapping[str, float]) -> None:
        """The live line: progress, losses, images made a second since the line before, and time left."""
        if self.quiet:
            return
        spent = time.monotonic() - self._began
        made, took = values.get("images", 0) - self._images, spent - self._spent
        pace = took / max(1, round_ - self._round)  # seconds a round, by way of a running mean: phases differ
        self._pace = pace if self._pace is None else 0.8 * self._pace + 0.2 * pace
        self._images, self._spent, self._round = self._images + made, spent, round_
        shown = "  ".join(
            f"{name} {value:.4g}" for name, value in values.items() if name not in ("images", "wall_s") and "/" not in name
        )
        rate = f"  {made / max(took, 1e-9):,.0f} images/s" if made else ""  # none where a round makes no images
        line = f"{self.unit} {round_}/{self.rounds}  {shown}{rate}  {_clock(self._pace * (self.rounds - round_))} left"
        if self._live:
            bar = "#" * (20 * round_ // self.rounds)
            print(f"\r\033[K[{bar:<20}] {line}", end="", file=sys.stderr, flush=True)
        elif spent - self._told >= 5 or round_ >= self.rounds:
            self._told = spent
            print(line, file=sys.stderr, flush=True)

    def best(self, name: str) -> float | None:
        """The largest value ever logged under `name`."""
        values = [float(row[name]) for row in self.rows if row.get(name)]
        return max(values) if values else None

    def close(self) -> None:
        """End the live line and close the files."""
        if self._live:
            print(file=sys.stderr)
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()

    def _handle(self) -> io.TextIOWrapper:
        assert self._file is not None
        return self._file

    def _open(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        """Write the file anew, with these columns, and leave it open for more."""
        if self._file:
            self._file.close()
        self._columns = columns
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path, text.getvalue())
        self._file = self.path.open("a", encoding="utf-8", newline="")


def say(line: str, quiet: bool = False) -> None:
    """A line for the person who waits."""
    if not quiet:
        print(line, file=sys.stderr, flush=True)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]  # a kill may have cut the last line
    return [{key: value for key, value in row.items() if value} for row in csv.DictReader(io.StringIO(whole))]


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("TensorBoard is not installed; pip install 'datafree[tensorboard]', or leave it out.") from error
    return SummaryWriter(folder / "tensorboard")  # type: ignore[no-untyped-call]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
