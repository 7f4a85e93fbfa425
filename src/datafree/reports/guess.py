"""The estimate of a run on its page: its sentences, its intervals on a line, and how often such estimates were right."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datafree.estimation.fitted import fitted
from datafree.reports.charts import Point, Scale, Tick

WIDTH, HEIGHT, LEFT, RIGHT = 360, 96, 84, 340  # of the picture of intervals, pixels
SIDE, MARGIN, EDGE = 300, 34, 12  # of the picture of reliability
PERCENT = (0, 25, 50, 75, 100)


@dataclass(frozen=True)
class Bar:
    """One interval on a line from 0 to 100 %."""

    name: str
    y: int
    low: float
    middle: float
    high: float
    words: str


@dataclass(frozen=True)
class Intervals:
    """Intervals under each other, with a mark for the teacher's accuracy and, where it was measured, the student's own."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    teacher: float | None
    measured: float | None
    summary: str
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True)
class Reliability:
    """Estimated against true accuracy of known students, and this one's interval as a band."""

    dots: tuple[Point, ...]
    ticks: tuple[Tick, ...]
    rises: tuple[Tick, ...]
    band: tuple[float, float] | None
    corner: tuple[float, float, float, float]  # left, top, right, bottom of the square
    summary: str
    side: int = SIDE


def guess_of(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the page shows of the record's entry `estimate`, None if it has none."""
    found = record.get("estimate")
    if not found:
        return None
    measured = record["results"].get("student_accuracy")
    families = (found["readings"] or {}).get("families", {})
    rows = [
        (name, f"{each['images']:,}", *(f"{100 * each[key]:.0f} %" for key in ("agreement", "steadiness")))
        for name, each in families.items()
    ]
    return {
        "sentences": [str(line) for line in found["sentences"]],
        "fit": str(found["fit"]),
        "families": rows,
        "intervals": _intervals(found, measured) if found["accuracy"] else None,
        "reliability": _reliability(found["accuracy"]),
    }


def _intervals(found: Mapping[str, Any], measured: float | None) -> Intervals:
    scale = Scale(0, 100, LEFT, RIGHT)
    bars = tuple(_bar(name, y, found[name], scale) for name, y in (("accuracy", 24), ("agreement", 52)))
    teacher = found["teacher_accuracy"]
    words = [f"{bar.name} {bar.words}" for bar in bars] + [f"its teacher's accuracy {teacher:.1f} %"]
    words += [] if measured is None else [f"measured accuracy {measured:.1f} %"]
    return Intervals(
        bars,
        tuple(Tick(scale.place(value), f"{value} %") for value in PERCENT),
        scale.place(teacher),
        None if measured is None else scale.place(measured),
        "; ".join(words),
    )


def _bar(name: str, y: int, limits: Mapping[str, float], scale: Scale) -> Bar:
    low, middle, high = (limits[key] for key in ("low", "value", "high"))
    places = (scale.place(low), scale.place(middle), scale.place(high))
    return Bar(name, y, *places, f"{middle:.0f} % ({low:.0f} to {high:.0f})")


def _reliability(accuracy: Mapping[str, float] | None) -> Reliability:
    across, up = Scale(0, 100, MARGIN, SIDE - EDGE), Scale(0, 100, SIDE - MARGIN, EDGE)
    seen = fitted().seen
    near = sum(abs(guess - truth) <= 5 for guess, truth in seen)
    return Reliability(
        tuple((across.place(guess), up.place(truth)) for guess, truth in seen),
        tuple(Tick(across.place(value), str(value)) for value in PERCENT),
        tuple(Tick(up.place(value), str(value)) for value in PERCENT),
        (across.place(accuracy["low"]), across.place(accuracy["high"])) if accuracy else None,
        (MARGIN, EDGE, SIDE - EDGE, SIDE - MARGIN),
        f"{len(seen)} students whose truth is known, by fits that never saw their teacher: {near} within 5 points",
    )
