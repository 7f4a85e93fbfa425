"""The fit of `datafree estimate`, and how often it is right about teachers and data that it never saw.

    python benchmarks/estimate.py

Reads benchmarks/results/estimate-runs.csv (benchmarks/estimate_readings.py), writes the constants to
src/datafree/estimation/fitted.json and what they are worth to benchmarks/results/estimate.json. Each case, a teacher and a data
set, is left out once: the others are fitted, and their own errors, each of them left out in turn, give the interval. Students
that were distilled on real images (`kd-real`) are no part of the fit; what it says of them stands apart.
"""

import argparse
import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datafree.core.files import write_text
from datafree.core.runtime import Runtime
from datafree.estimation.conclusion import interval, joined, unsuited
from datafree.estimation.fitted import Fitted, Line, features, log_odds, share_of
from datafree.estimation.readings import ClassReading, Reading, Readings
from datafree.reports import record

HERE = Path(__file__).parent
TABLE = HERE / "results" / "estimate-runs.csv"
FITTED = HERE.parent / "src" / "datafree" / "estimation" / "fitted.json"
NAMES = ("matched.agreement", "accuracy")
RIDGE = 0.03
NINE = 0.9
REAL = "kd-real"
GOOD = 5.0  # points below its teacher within which a student is good
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Student:
    """One row of the table."""

    case: str
    run: str
    moment: str
    accuracy: float
    agreement: float
    teacher: float
    readings: Readings

    @property
    def last(self) -> bool:
        at, of = self.moment.split("/")
        return at == of


@dataclass(frozen=True)
class Ridge:
    """A ridge regression on standardised features, each case with the same weight."""

    mean: Numbers
    scale: Numbers
    weights: Numbers
    bias: float

    def __call__(self, x: Numbers) -> Numbers:
        return (x - self.mean) / self.scale @ self.weights + self.bias


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--fitted", type=Path, default=FITTED)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "estimate.json")
    parser.add_argument("--names", nargs="+", default=list(NAMES), help="features")
    given = parser.parse_args()
    students = read_table(given.table)
    refused = sorted({each.case for each in students if unsuited(each.readings, each.teacher)})
    students = [each for each in students if each.case not in refused]
    synthetic = [each for each in students if each.run != REAL]
    names = tuple(given.names)
    fitted = constants(synthetic, names)
    write_text(given.fitted, fitted.model_dump_json(indent=1) + "\n")
    found = worth(synthetic, names)
    found["refused"] = refused
    found["real"] = of_others(students, names, fitted)
    head = {"command": "python benchmarks/estimate.py", "machine": Runtime("cpu").machine(), "versions": record.versions()}
    write_text(given.out, json.dumps(head | found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def read_table(file: Path) -> list[Student]:
    """The rows of the table."""
    with file.open() as opened:
        return [_student(row) for row in csv.DictReader(opened)]


def _student(row: dict[str, str]) -> Student:
    families: dict[str, dict[str, float]] = {}
    fields = list(Reading.__dataclass_fields__)
    for name, value in row.items():
        family, _, field = name.partition("_")
        if field in fields:
            families.setdefault(family, {})[field] = float(value)
    readings = {family: Reading(**{**found, "images": int(found["images"])}) for family, found in families.items()}
    classes = (ClassReading(0, 0, 0),) * int(row["classes"])
    return Student(
        row["case"],
        row["run"],
        row["moment"],
        float(row["accuracy"]),
        float(row["agreement"]),
        float(row["teacher"]),
        Readings(readings, classes),
    )


def matrix(students: list[Student], names: tuple[str, ...]) -> Numbers:
    """Features [N, F]."""
    return np.array([features(names, each.readings, each.teacher) for each in students])


def shares(students: list[Student]) -> Numbers:
    """A weight for each student by which each case weighs the same, and all together 1."""
    cases = [each.case for each in students]
    return np.array([1 / (cases.count(case) * len(set(cases))) for case in cases])


def regress(x: Numbers, y: Numbers, w: Numbers) -> Ridge:
    """Ridge regression of y [N] on x [N, F] with weights w [N] that sum to 1."""
    mean = w @ x
    scale = np.sqrt(w @ (x - mean) ** 2) + 1e-6
    z, bias = (x - mean) / scale, float(w @ y)
    normal = z.T @ (w[:, None] * z) + RIDGE * np.eye(z.shape[1])
    return Ridge(mean, scale, np.linalg.solve(normal, z.T @ (w * (y - bias))), bias)


TARGETS = ("agreement", "accuracy")


@dataclass(frozen=True)
class Fit:
    """Log odds of agreement and accuracy from readings, as the library computes them."""

    lines: tuple[Ridge, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, students: list[Student], names: tuple[str, ...]) -> "Fit":
        x, w = matrix(students, names), shares(students)
        return cls(tuple(regress(x, truth(students, target), w) for target in TARGETS), names)

    def __call__(self, students: list[Student]) -> tuple[Numbers, ...]:
        """Log odds of agreement and accuracy, each [N]."""
        x = matrix(students, self.names)
        return tuple(line(x) for line in self.lines)


def truth(students: list[Student], target: str) -> Numbers:
    """Log odds of the true share [N]."""
    return np.array([log_odds(getattr(each, target) / 100, 1000) for each in students])


def errors(students: list[Student], names: tuple[str, ...]) -> tuple[Numbers, ...]:
    """Errors in log odds of agreement and accuracy, each [N], each case left out of the fit that judges it."""
    out = [np.zeros(len(students)) for _ in TARGETS]
    for case in sorted({each.case for each in students}):
        rest = [each for each in students if each.case != case]
        rows = [at for at, each in enumerate(students) if each.case == case]
        mine = [students[at] for at in rows]
        for column, target, found in zip(out, TARGETS, Fit.of(rest, names)(mine), strict=True):
            column[rows] = truth(mine, target) - found
    return tuple(out)


def quantile(values: Numbers, w: Numbers) -> float:
    """Least value that `NINE` of the weight does not exceed, with one case more that may be anything (conformal)."""
    order = np.argsort(values)
    reached = np.cumsum(w[order]) / w.sum()
    return float(values[order][min(len(values) - 1, int(np.searchsorted(reached, NINE)))])


def constants(students: list[Student], names: tuple[str, ...]) -> Fitted:
    """What the library reads."""
    fit, found, w = Fit.of(students, names), errors(students, names), shares(students)
    classes = [len(each.readings.classes) for each in students]
    lines = [_line(ridge, quantile(np.abs(off), w)) for ridge, off in zip(fit.lines, found, strict=True)]
    return Fitted(
        version=f"1, {len(students)} students of {len({each.case for each in students})} teachers",
        names=names,
        agreement=lines[0],
        accuracy=lines[1],
        classes=(min(classes), max(classes)),
        seen=tuple(
            (round(100 * share_of(log_odds(each.accuracy / 100, 1000) - error), 1), round(each.accuracy, 1))
            for each, error in zip(students, found[1], strict=True)
            if each.last or each.moment.startswith("4/")
        ),
    )


def _line(ridge: Ridge, error: float) -> Line:
    mean, scale, weights = (
        tuple(round(float(value), 5) for value in each) for each in (ridge.mean, ridge.scale, ridge.weights)
    )
    return Line(mean=mean, scale=scale, weights=weights, bias=round(ridge.bias, 5), error=round(error, 4))


def worth(students: list[Student], names: tuple[str, ...]) -> dict[str, Any]:
    """Coverage, width and ranks, each case judged by a fit and an interval that never saw it."""
    cases = sorted({each.case for each in students})
    rows = []
    for case in cases:
        rest, mine = ([each for each in students if (each.case == case) is here] for here in (False, True))
        wide = [quantile(np.abs(found), shares(rest)) for found in errors(rest, names)]
        for each, odds, accuracy in zip(mine, *Fit.of(rest, names)(mine), strict=True):
            agreement = interval(odds, wide[0])
            limits = joined(interval(accuracy, wide[1]), agreement, each.teacher)
            rows.append((each, *([i.low, i.value, i.high] for i in (limits, agreement))))
    good = [row for row in rows if row[0].teacher - row[0].accuracy <= GOOD]
    return {
        "runs": len({(each.case, each.run) for each in students}),
        "students": len(students),
        "cases": len(cases),
        "coverage": coverage(rows),
        "coverage_agreement": round(np.mean([a[0] <= s.agreement <= a[2] for s, _, a in rows]).item(), 3),
        "median_width": width(rows),
        "median_width_good": width(good),
        "students_good": len(good),
        "coverage_good": coverage(good),
        "rank_correlation": rank([s.accuracy for s, *_ in rows], [x[1] for _, x, _ in rows]),
        "rank_within_runs": within(rows),
        **choice(rows),
        "each": {case: one([row for row in rows if row[0].case == case]) for case in cases},
    }


def one(rows: list[Any]) -> dict[str, float]:
    errors_ = [x[1] - s.accuracy for s, x, _ in rows]
    return {
        "students": len(rows),
        "coverage": coverage(rows),
        "median_width": width(rows),
        "median_error": round(float(np.median(errors_)), 2),
    }


def coverage(rows: list[Any]) -> float:
    """Share of students whose accuracy lies in its interval."""
    return round(float(np.mean([x[0] <= s.accuracy <= x[2] for s, x, _ in rows])), 3) if rows else math.nan


def width(rows: list[Any]) -> float:
    """Median width of the intervals of accuracy, points."""
    return round(float(np.median([x[2] - x[0] for _, x, _ in rows])), 2) if rows else math.nan


def rank(truth: list[float], guess: list[float]) -> float:
    """Spearman's rank correlation."""
    from scipy.stats import spearmanr

    return round(float(spearmanr(truth, guess).statistic), 3)


def within(rows: list[Any]) -> float:
    """Mean rank correlation over the moments of single runs that learnt something."""
    found = []
    for key in sorted({(s.case, s.run) for s, *_ in rows}):
        of = [(s.accuracy, x[1]) for s, x, _ in rows if (s.case, s.run) == key]
        if max(a for a, _ in of) - min(a for a, _ in of) > GOOD:
            found.append(rank(*zip(*of, strict=True)))
    return round(float(np.nanmean(found)), 3)


def choice(rows: list[Any]) -> dict[str, float]:
    """Points by which the moment of a run with the best estimate, and its last moment, are below its best moment."""
    chosen, last = [], []
    for key in sorted({(s.case, s.run) for s, *_ in rows}):
        of = [(s, x[1]) for s, x, _ in rows if (s.case, s.run) == key]
        best = max(s.accuracy for s, _ in of)
        chosen.append(best - max(of, key=lambda row: row[1])[0].accuracy)
        last.append(best - next(s.accuracy for s, _ in of if s.last))
    return {"regret_choice": round(float(np.mean(chosen)), 2), "regret_last": round(float(np.mean(last)), 2)}


def of_others(students: list[Student], names: tuple[str, ...], fitted: Fitted) -> dict[str, float]:
    """What the fit says of students that were distilled on real images: how often it is right, and by how much too low."""
    real = [each for each in students if each.run == REAL]
    if not real:
        return {}
    fit = Fit.of([each for each in students if each.run != REAL], names)
    low = [each.accuracy - 100 * share_of(odds) for each, odds in zip(real, fit(real)[1], strict=True)]
    return {"students": len(real), "median_points_too_low": round(float(np.median(low)), 1)}


if __name__ == "__main__":
    main()
