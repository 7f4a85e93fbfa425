"""The fit: from readings on probes to the agreement on real images, with an interval that is right nine times in ten.

`benchmarks/estimate.py` fits the constants on students whose truth is known. It leaves one teacher with its data out at a time,
which says how far off the fit is on a teacher that it never saw: a conformal interval (Vovk et al. 2005), by groups.
"""

import math
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from datafree.core.settings import Settings
from datafree.estimation.probes import STAGES
from datafree.estimation.readings import Readings

Numbers = Annotated[tuple[float, ...], Field(min_length=1)]


class Line(Settings):
    """Log odds of a share as a line in standardised features, and how far off it is."""

    mean: Numbers
    """Mean of each feature over the students of the fit, each case with the same weight."""
    scale: Numbers
    """Deviation of each feature."""
    weights: Numbers
    """Of each feature, standardised."""
    bias: float
    """Log odds where all features have their means."""
    error: float
    """Log odds by which nine of ten students are off at most, each case left out of the fit once."""

    def odds(self, values: list[float]) -> float:
        """Log odds at these values of the features."""
        parts = zip(self.weights, values, self.mean, self.scale, strict=True)
        return self.bias + sum(weight * (value - mean) / scale for weight, value, mean, scale in parts)


class Fitted(Settings):
    """Constants of one fit."""

    version: str
    """Names the fit in records."""
    names: tuple[str, ...]
    """Features, in the order of the lines: FAMILY.READING of the probes, `accuracy`, the teacher's, or `matched.READING`, that
    of inversions as hard for the teacher as real images are."""
    agreement: Line
    """Of the share of real images on which a student names its teacher's class."""
    accuracy: Line
    """Of the share of them on which it is right."""
    classes: tuple[int, int]
    """Least and largest number of classes in the fit."""
    seen: tuple[tuple[float, float], ...] = ()
    """Estimated and true accuracy, percent, of students whose teacher was left out of the fit."""


@lru_cache
def fitted() -> Fitted:
    """The fit of this version."""
    text = resources.files("datafree.estimation").joinpath("fitted.json").read_text(encoding="utf-8")
    return Fitted.model_validate_json(text)


def features(names: tuple[str, ...], readings: Readings, accuracy: float) -> list[float]:
    """Values of the features; `accuracy` is the teacher's, percent."""
    found = []
    for name in names:
        family, _, reading = name.partition(".")
        if name == "accuracy":
            found.append(log_odds(accuracy / 100, 1000))
            continue
        if family == "matched":
            found.append(matched(readings, reading, accuracy))
            continue
        value = getattr(readings.families[family], reading)
        signed = reading == "correlation"
        found.append(math.atanh(max(-0.99, min(0.99, value))) if signed else log_odds(value, readings.families[family].images))
    return found


def matched(readings: Readings, reading: str, accuracy: float) -> float:
    """Log odds of a reading where the teacher hits as often as on real images: between the stages, or that of the nearest."""
    goal = log_odds(accuracy / 100, 1000)
    found = [readings.families[name] for name in STAGES]
    points = [(log_odds(each.teacher_hits, each.images), log_odds(getattr(each, reading), each.images)) for each in found]
    for (x, y), (far, top) in pairwise(points):
        if goal <= far:
            share = max(0.0, min(1.0, (goal - x) / (far - x))) if far > x else 1.0
            return y + share * (top - y)
    return points[-1][1]


def log_odds(share: float, images: int) -> float:
    """Log odds of a share of that many images, finite at both ends."""
    hits = max(0.0, min(1.0, share)) * images
    return math.log((hits + 1) / (images - hits + 1))


def share_of(odds: float) -> float:
    """The share that has these log odds."""
    return 1 / (1 + math.exp(-odds))
