"""The log of a run: `log.csv`, the progress on the screen, and TensorBoard files if wanted."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datafree.core.distributed import is_main
from datafree.core.files import write_text
from datafree.core.settings import first_line
from datafree.engine.progress import Progress

MOST_ROUNDS = 10**12  # in a log
MOST_BYTES = 2**26  # of a log
MOST_VALUES = 2**24  # of a log, counted with ten more a line for the line itself


class RunLog:
    """Writes and shows the values that a run measures; only rank 0 writes and prints.

    Lines after round `start` are dropped, since those rounds are run again. `unit` is the word for a round on the screen.
    Values whose name has a slash (`kept/3`, one of many) are written but not shown.
    """

    def __init__(
        self, path: Path, rounds: int, start: int, quiet: bool = False, tensorboard: bool = False, unit: str = "round"
    ):
        self.path = path
        earlier = [row for row in read_rows(path) if int(row["round"]) <= start]
        self.rows = [{name: value for name, value in row.items() if value} for row in earlier]
        self._file: io.TextIOWrapper | None = None
        self._columns: list[str] = []
        self._images = float(self.rows[-1].get("images", 0)) if self.rows else 0.0  # number at the last line
        self._board = _tensorboard_writer(path.parent) if tensorboard and is_main() else None
        if is_main() and self.rows:
            self._rewrite(list(dict.fromkeys(name for row in self.rows for name in row)), self.rows)
        elif is_main():
            path.unlink(missing_ok=True)
        self.progress = Progress(rounds, start, unit, quiet or not is_main())  # last, since a bar of a failed start would stay

    def write(self, round_: int, values: Mapping[str, float]) -> None:
        """Append one line: the round and the `values` measured since the last line."""
        if not is_main():
            return
        row = {"round": str(round_), **{name: f"{value:.8g}" for name, value in values.items()}}
        self.rows.append(row)
        if set(row) - set(self._columns):
            self._rewrite(list(dict.fromkeys([*self._columns, *row])), self.rows)
        else:
            csv.DictWriter(self._handle(), self._columns, lineterminator="\n").writerow(row)
        self._handle().flush()
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, round_)
        images = values.get("images", self._images)
        shown = {name: value for name, value in values.items() if name not in ("images", "wall_s", "cpu_s") and "/" not in name}
        self.progress.show(round_, shown, images - self._images)
        self._images = images

    def best(self, name: str) -> float | None:
        """The largest value logged under `name`, or None."""
        values = [float(row[name]) for row in self.rows if row.get(name)]
        return max(values) if values else None

    def least(self, name: str) -> float:
        """The smallest value logged under `name`; infinity if there is none."""
        return min((float(row[name]) for row in self.rows if row.get(name)), default=float("inf"))

    def close(self) -> None:
        """End the progress line and close the files."""
        self.progress.close()
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()

    def _handle(self) -> io.TextIOWrapper:
        assert self._file is not None
        return self._file

    def _rewrite(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        """Write the whole file with these columns, and leave it open for further lines."""
        if self._file:
            self._file.close()
        self._columns = columns
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path, text.getvalue())
        self._file = self.path.open("a", encoding="utf-8", newline="")


def seconds_of(path: Path, clock: str = "wall") -> list[float]:
    """Seconds, wall or CPU, that each line of a log took, the first counted from the start of the run."""
    times = [float(row[f"{clock}_s"]) for row in read_rows(path)]
    return [end - start for start, end in zip([0.0, *times], times, strict=False)]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The lines of a log, each column's text by its name, empty where nothing was measured; [] if there is no log.

    Raises `ValueError` for a file that is no log: rounds are counts, all else is numbers.
    """
    if not path.exists():
        return []
    try:
        if not path.is_file():
            raise ValueError("it is no regular file")
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES / 2**20:.0f} MiB")
        complete = path.read_text(encoding="utf-8").rpartition("\n")[0]  # a kill may have cut the last line
        reader = csv.DictReader(io.StringIO(complete))
        lines, columns = 1 + complete.count("\n") + complete.count("\r"), len(reader.fieldnames or ())
        if lines * (columns + 10) > MOST_VALUES:
            raise ValueError(f"it has {lines:,} lines of {columns:,} values")
        rows = list(reader)
        for row in rows:
            if not 0 <= int(row["round"]) <= MOST_ROUNDS:
                raise ValueError(f"round {row['round']}")
            _ = [float(value) for value in row.values() if value]
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} is not the log of a run ({first_line(error)}); delete it to go on without it.") from error
    return rows


def _tensorboard_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "TensorBoard is not installed; pip install 'datafree[tensorboard]', or leave out --tensorboard."
        ) from error
    return SummaryWriter(folder / "tensorboard")  # type: ignore[no-untyped-call]
