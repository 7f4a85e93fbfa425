"""Axes and lines of the page's curves."""

import math
import random
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from datafree.reports.charts import MOST_POINTS, Chart, Point, chart, curves, round_ticks, thinned, tick_labels


def values_of(drawn: Chart) -> list[float]:
    """The values of the line's pixels, read with a ruler off the lowest and the highest tick of the y axis."""
    low, high = drawn.y_ticks[0], drawn.y_ticks[-1]
    bottom, top = (float(tick.label.replace(",", "")) for tick in (low, high))
    return [bottom + (low.at - y) / (low.at - high.at) * (top - bottom) for _, y in drawn.line]


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0, 1.0, ["0.0", "0.5", "1.0"]),
        (0.0, 0.1, ["0.00", "0.05", "0.10"]),
        (0.3, 0.7, ["0.3", "0.4", "0.5", "0.6", "0.7"]),
        (0.4569, 1.404, ["0.0", "0.5", "1.0", "1.5"]),
        (91.2, 97.5, ["90", "92", "94", "96", "98"]),
        (-9.0, -5.0, ["-9", "-8", "-7", "-6", "-5"]),
        (-0.2, 0.15, ["-0.2", "-0.1", "0.0", "0.1", "0.2"]),
        (1.0, 123_456.0, ["0", "50,000", "100,000", "150,000"]),
        (0.0, 3e-7, ["0", "1e-7", "2e-7", "3e-7"]),
        (0.0, 1.2e6, ["0", "5e+5", "1e+6", "1.5e+6"]),
    ],
)
def test_ticks_are_round(low: float, high: float, labels: list[str]) -> None:
    assert tick_labels(round_ticks(low, high, 4)) == labels


def test_ticks_reach_over_their_range_and_are_few_at_any_scale() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        low = draw.uniform(-1, 1) * 10 ** draw.uniform(-12, 12)
        high = low + abs(low or 1) * 10 ** draw.uniform(-6, 6)
        ticks = round_ticks(low, high, 4)
        step = ticks[1] - ticks[0]
        assert ticks[0] <= low < ticks[0] + step or ticks[0] == Decimal(repr(low))
        assert ticks[-1] >= high > ticks[-1] - step or ticks[-1] == Decimal(repr(high))
        assert 2 <= len(ticks) <= 6
        assert step.normalize().as_tuple().digits in {(1,), (2,), (5,)}
        assert len(set(tick_labels(ticks))) == len(ticks)


def test_rounds_are_never_parted() -> None:
    assert tick_labels(round_ticks(1, 2, 5, Decimal(1))) == ["1", "2"]
    drawn = chart("loss", "round", [(1.0, 0.0), (2.0, 1.0)])
    assert [tick.label for tick in drawn.x_ticks] == ["1", "2"]


def test_points_lie_where_a_ruler_puts_them() -> None:
    points = [(float(x), y) for x, y in zip((10, 20, 40, 90), (1.25, 0.3, -0.9, 0.05), strict=True)]
    drawn = chart("loss", "round", points)
    for (x, _), (round_, _) in zip(drawn.line, points, strict=True):
        expected = drawn.left + (round_ - 10) / (90 - 10) * (drawn.right - drawn.left)
        assert x == pytest.approx(expected, abs=0.06)
    pixel = 2.5 / (drawn.bottom - drawn.y_ticks[-1].at)
    assert values_of(drawn) == pytest.approx([value for _, value in points], abs=0.06 * pixel)
    assert drawn.y_ticks[0].at == drawn.bottom
    by_label = {int(tick.label): tick.at for tick in drawn.x_ticks}
    assert by_label[20] == drawn.line[1][0], "a tick of an axis stands where its round's point does"
    assert drawn.summary == "rounds 10 to 90; lowest -0.9, highest 1.25, last 0.05"


@pytest.mark.parametrize("value", [0.0, 0.5, -3.0, 1e-12, 1e12, 2.3025851])
def test_a_constant_series_is_a_line_within_its_axis(value: float) -> None:
    drawn = chart("loss", "round", [(1.0, value), (2.0, value), (3.0, value)])
    (height,) = {y for _, y in drawn.line}
    assert drawn.y_ticks[-1].at < height < drawn.bottom
    assert values_of(drawn) == pytest.approx([value] * 3, abs=0.01 * (abs(value) or 1))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_one_sided_values_stay_within_the_plot(sign: int, scale: float) -> None:
    points = [(float(i), sign * scale * (5 + i % 7)) for i in range(50)]
    drawn = chart("loss", "round", points)
    assert all(drawn.left <= x <= drawn.right for x, _ in drawn.line)
    assert all(drawn.y_ticks[-1].at <= y <= drawn.bottom for _, y in drawn.line)
    assert max(y for _, y in drawn.line) - min(y for _, y in drawn.line) > 0.5 * (drawn.bottom - drawn.y_ticks[-1].at)


def test_many_points_become_few_which_keep_the_ends_and_the_extremes() -> None:
    draw = random.Random(0)
    points: list[Point] = [(float(i), draw.gauss(0, 1)) for i in range(1, 20_001)]
    points[12_345] = (12_346.0, 99.0)
    points[4_321] = (4_322.0, -99.0)
    kept = thinned(points)
    assert MOST_POINTS / 2 < len(kept) <= MOST_POINTS
    assert set(kept) <= set(points)
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert {points[12_345], points[4_321]} <= set(kept)
    assert max(after[0] - before[0] for before, after in pairwise(kept)) < 20_000 / 50
    assert thinned(points[:MOST_POINTS]) == points[:MOST_POINTS]


def test_a_few_points_are_dots_and_many_are_not() -> None:
    few, many = ([(float(i), float(i)) for i in range(count)] for count in (20, 200))
    assert chart("loss", "round", few).dots == chart("loss", "round", few).line
    assert not chart("loss", "round", many).dots


def test_curves_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    assert curves(log, "round") == []
    log.write_text("round,student_loss,accuracy,kept/3,images,wall_s,once\n")
    assert curves(log, "round") == []
    log.write_text(
        "round,student_loss,accuracy,kept/3,images,wall_s,once\n"
        "1,0.5,nan,1,4,1,\n2,nan,10,1,8,2,7\n3,inf,,1,12,3,\n4,0.25,30,1,16,4,\n"
    )
    loss, accuracy = curves(log, "round")
    assert (loss.title, accuracy.title, loss.across) == ("student loss", "accuracy, %", "round")
    assert loss.summary == "rounds 1 to 4; lowest 0.25, highest 0.5, last 0.25"
    assert accuracy.summary == "rounds 2 to 4; lowest 10.00, highest 30.00, last 30.00"
    for drawn in (loss, accuracy):
        assert len(drawn.line) == 2
        assert all(math.isfinite(place) for point in drawn.line for place in point)
