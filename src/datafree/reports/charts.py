"""The curves of a run's log as plain geometry: where the line goes, and round numbers for its two axes.

The page's template turns a `Chart` into SVG. All positions are pixels from the upper left corner.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from datafree.engine.log import read_rows
from datafree.reports.labels import label, number

WIDTH, HEIGHT = 360, 200  # of a chart
TOP, RIGHT, BOTTOM = 8, 24, 38  # margins; the left one is as wide as the numbers of the y axis
DIGIT, GAP = 6.9, 10  # width of a digit of a tick; room beside the numbers of the y axis
MOST_POINTS = 300  # of a line, so that a long run does not make the page huge
LARGEST = 1e300  # value that is drawn
MOST_DOTS = 30  # points that get a dot each

Point = tuple[float, float]  # round, value


@dataclass(frozen=True)
class Tick:
    """A round number on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Chart:
    """One curve, ready to be drawn."""

    title: str
    across: str  # what the x axis counts
    summary: str
    left: int  # where the y axis stands
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    line: tuple[Point, ...]
    width: int = WIDTH
    height: int = HEIGHT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM  # where the x axis lies

    @property
    def dots(self) -> tuple[Point, ...]:
        """The line's points, where they are few enough to be seen one by one."""
        return self.line if len(self.line) <= MOST_DOTS else ()


@dataclass(frozen=True)
class Scale:
    """A linear map of the values from `low` to `high` to the pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """The pixel of `value`, to a tenth."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def curves(log: Path, across: str) -> list[Chart]:
    """A chart of each column of `log` that has at least two finite numbers; none where there is no log.

    Rounds, images and seconds are left out, and so are columns of one class each, which have a slash in their name.
    """
    if not log.exists():
        return []
    return [chart(label(name), across, points) for name, points in _columns(log) if len(points) > 1]


def _columns(log: Path) -> Iterator[tuple[str, list[Point]]]:
    rows = read_rows(log)
    for name in rows[0] if rows else ():
        if name not in ("round", "wall_s", "cpu_s", "images") and "/" not in name:
            points = [(float(row["round"]), float(row[name])) for row in rows if row[name]]
            yield name, [point for point in points if abs(point[1]) <= LARGEST]


def chart(title: str, across: str, points: list[Point]) -> Chart:
    """The chart of `points`, which are finite and in the order of their rounds."""
    rounds, values = zip(*points, strict=True)
    first, last = _some_range(rounds[0], rounds[-1])
    low, high = _some_range(min(values), max(values))
    xs = [tick for tick in round_ticks(first, last, 5, Decimal(1)) if first <= tick <= last]
    ys = round_ticks(low, high, 4)
    left = math.ceil(GAP + DIGIT * max(map(len, tick_labels(ys))))
    x_scale = Scale(first, last, left, WIDTH - RIGHT)
    y_scale = Scale(float(ys[0]), float(ys[-1]), HEIGHT - BOTTOM, TOP)
    lowest, highest, newest = (number(value, title) for value in (min(values), max(values), values[-1]))
    return Chart(
        title,
        across,
        f"{across}s {number(rounds[0])} to {number(rounds[-1])}; lowest {lowest}, highest {highest}, last {newest}",
        left,
        _placed(xs, x_scale),
        _placed(ys, y_scale),
        tuple((x_scale.place(x), y_scale.place(y)) for x, y in thinned(points)),
    )


def _some_range(low: float, high: float) -> tuple[float, float]:
    """`low` and `high`, or, where they are as good as equal, a range around them: a tenth to either side, 1 at zero."""
    if high - low > 1e-9 * max(abs(low), abs(high)) + 1e-300:
        return low, high
    margin = abs(low) / 10 or 1.0
    return low - margin, high + margin


def _placed(ticks: list[Decimal], scale: Scale) -> tuple[Tick, ...]:
    return tuple(Tick(scale.place(float(tick)), words) for tick, words in zip(ticks, tick_labels(ticks), strict=True))


def round_ticks(low: float, high: float, parts: int, finest: Decimal = Decimal(0)) -> list[Decimal]:
    """Multiples of a round step, from the last one that is not above `low` to the first that is not below `high`.

    The step is 1, 2 or 5 times a power of ten, `finest` or more: the smallest one of which `parts` reach over `high - low`.
    """
    power = math.floor(math.log10((high - low) / parts))
    steps = (Decimal(factor).scaleb(exponent) for exponent in range(power, power + 400) for factor in (1, 2, 5))
    step = next(step for step in steps if step >= finest and step * parts >= high - low)
    start, end = math.floor(Decimal(repr(low)) / step), math.ceil(Decimal(repr(high)) / step)
    return [multiple * step for multiple in range(start, end + 1)]


def tick_labels(ticks: list[Decimal]) -> list[str]:
    """The numbers of an axis with the same decimals, or, where one is very large or very small, as powers of ten."""
    if all(tick == 0 or Decimal("1e-4") <= abs(tick) < 10**6 for tick in ticks):
        return [f"{tick:,f}" for tick in ticks]
    return [f"{tick.normalize():e}" if tick else "0" for tick in ticks]


def thinned(points: list[Point], most: int = MOST_POINTS) -> list[Point]:
    """`points`, or at most `most` of them: the first, the last, and the lowest and highest of each stretch between."""
    if len(points) <= most:
        return points
    inner, stretches = points[1:-1], most // 2 - 1
    kept = [points[0]]
    for i in range(stretches):
        part = inner[i * len(inner) // stretches : (i + 1) * len(inner) // stretches]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return [*kept, points[-1]]
