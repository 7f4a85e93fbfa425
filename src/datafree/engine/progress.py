"""Progress on the screen: a live bar on a terminal and in a notebook, elsewhere a line at the start and every ten seconds."""

import sys
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from datafree.core.terminal import show

EVERY = 10.0  # largest time between two lines if the output is not a terminal, seconds
SOONEST = 2.0  # least time between two lines with new values, seconds


class Progress:
    """Shows how many `unit`s of `total` are done, the values measured last, and the time left.

    Nothing here waits for the device. The time left follows a running mean of the time a unit takes, since phases differ.
    """

    def __init__(self, total: int, done: int, unit: str = "round", quiet: bool = False):
        self.total, self.done, self.unit, self.quiet = total, done, unit, quiet
        self._start, self._began = done, time.monotonic()
        self._shown, self._shown_at = done, self._began  # unit and time at which values were last shown
        self._pace: float | None = None  # seconds per unit
        self._values, self._printed, self._line = "", float("-inf"), ""
        self._closed = threading.Event()
        self._bar: Bar | None = None
        if quiet:
            return
        if sys.stderr.isatty() or _in_notebook():
            columns = (TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.fields[line]}"), TimeElapsedColumn())
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(unit, total=total, completed=done, line=self.line())
            self._bar.start()
        else:
            self._print()
            threading.Thread(target=self._beat, daemon=True).start()

    def advance(self, done: int) -> None:
        """Set the number of units done; cheap enough for every round."""
        self.done = done
        if self._bar:
            self._bar.update(self._task, completed=done, line=self.line())

    def show(self, done: int, values: Mapping[str, float], images: float = 0.0) -> None:
        """Show `values`, measured up to unit `done`, and the rate at which `images` were made since the last call."""
        now = time.monotonic()
        took = now - self._shown_at
        pace = took / max(1, done - self._shown)
        self._pace = pace if self._pace is None else 0.8 * self._pace + 0.2 * pace
        self._shown, self._shown_at = done, now
        rate = [f"{images / max(took, 1e-9):,.0f} images/s"] if images else []
        self._values = "  ".join([*(f"{name} {value:.4g}" for name, value in values.items()), *rate])
        self.advance(done)
        if not (self._bar or self.quiet) and (now - self._printed >= SOONEST or done >= self.total):
            self._print()

    def line(self) -> str:
        """`round 3/80  student_loss 0.12  5,120 images/s  1:20 left`."""
        pace = self._pace
        if pace is None and self.done > self._start:
            pace = (time.monotonic() - self._began) / (self.done - self._start)
        left = "" if pace is None else f"{_clock(pace * (self.total - self.done))} left"
        return "  ".join(part for part in (f"{self.unit} {self.done}/{self.total}", self._values, left) if part)

    def say(self, sentence: str) -> None:
        """Print a line that stays, above a live bar."""
        if self._bar:
            self._bar.console.print(sentence, markup=False, highlight=False, soft_wrap=True)
        else:
            print_line(sentence, self.quiet)

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._closed.set()
        if self._bar:
            self._bar.stop()

    def _beat(self) -> None:
        while not self._closed.wait(max(0.1, self._printed + EVERY - time.monotonic())):
            if time.monotonic() - self._printed >= EVERY:
                self._print()

    def _print(self) -> None:
        self._printed = time.monotonic()
        show(self.line(), error=True)


def _in_notebook() -> bool:
    """Whether this process is a notebook's that can show a live bar."""
    return Console(stderr=True).is_jupyter and find_spec("ipywidgets") is not None


def print_line(line: str, quiet: bool = False) -> None:
    """Print one line on standard error, unless `quiet`."""
    if not quiet:
        show(line, error=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
