"""What follows from readings: intervals for the real accuracy and agreement, weak classes, or that nothing can be known."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from datafree.estimation.exact import bounds
from datafree.estimation.fitted import Fitted, features, fitted, log_odds, share_of
from datafree.estimation.readings import ClassReading, Readings

EVEN = 0.6  # the least evenness of the teacher's classes on inversions; below it they reach too few of them
COLLAPSED = 0.3  # the largest evenness of a student that names next to nothing but one class
SEEN = 20  # probes that the teacher must call a class before something is said of it
EASY = 0.98  # accuracy beyond which a few hundred probes do not tell how easy they are
HARDER = 1.5  # log odds by which the teacher may be right less often about probes than about real images
NEVER = 0.02  # share of a class's probes that a student which never learnt it agrees on, at most
NOTHING = 2.0  # times the agreement of a guess, below which a student has learnt nothing
WEAKEST = 3  # classes that are named


@dataclass(frozen=True)
class Interval:
    """A value with limits between which it lies nine times in ten, percent."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.0f} % ({self.low:.0f} to {self.high:.0f}, nine times in ten)"


@dataclass(frozen=True)
class Estimate:
    """How good a student is, by what is known without a single real image."""

    fit: str
    """Version of the fit."""
    readings: Readings | None = None
    """What both networks answered to the probes; None: there were none."""
    teacher_accuracy: float | None = None
    """Percent, by the teacher's card or as stated; None: nobody knows."""
    agreement: Interval | None = None
    """Share of real images on which it names its teacher's class."""
    accuracy: Interval | None = None
    """On images like those that the teacher's accuracy was measured on."""
    weakest: tuple[tuple[int, float], ...] = ()
    """Classes on whose probes it agrees least, with how often, percent."""
    findings: tuple[str, ...] = ()
    """What is plainly wrong with it, a sentence each."""
    unknown: str = ""
    """Why there is no interval; empty if there is one."""

    def record(self) -> dict[str, Any]:
        """The estimate as plain values: its fields, with the sentences."""
        return {**asdict(self), "sentences": self.sentences()}

    def sentences(self) -> list[str]:
        """What a person should read, a sentence a line."""
        return [*self._good(), *self.findings, *self._weak()]

    def _good(self) -> Iterator[str]:
        if self.agreement is None:
            yield f"How good it is cannot be known: {self.unknown}."
            if self.teacher_accuracy is not None:
                low, _ = bounds(self.teacher_accuracy, 90)
                yield (
                    f"What is certain: it is off its teacher's {self.teacher_accuracy:.1f} % by no more than the share of "
                    f"images on which they differ; if that is 10 %, its accuracy is at least {low:.1f} %."
                )
            return
        yield f"Its accuracy is about {self.accuracy}; its teacher's is {self.teacher_accuracy:.1f} %."
        yield f"It agrees with its teacher on about {self.agreement}."

    def _weak(self) -> Iterator[str]:
        if self.weakest and not self.findings:
            named = ", ".join(f"{each} ({share:.0f} %)" for each, share in self.weakest)
            yield f"Classes on whose probes it agrees least: {named}."


def conclude(readings: Readings, accuracy: float | None) -> Estimate:
    """What follows from `readings`, with the teacher's `accuracy`, percent, where it is known."""
    fit = fitted()
    found = Estimate(
        fit.version,
        readings,
        accuracy,
        weakest=tuple(_weakest(readings.classes)),
        findings=tuple(_findings(readings)),
        unknown=_unknown(readings, accuracy, fit),
    )
    if found.unknown:
        return found
    assert accuracy is not None
    values = features(fit.names, readings, accuracy)
    agreement = interval(fit.agreement.odds(values), fit.agreement.error)
    apart = interval(fit.accuracy.odds(values), fit.accuracy.error)
    return replace(found, agreement=agreement, accuracy=joined(apart, agreement, accuracy))


def interval(odds: float, error: float) -> Interval:
    """The interval of a share by its log odds, and how far off they are at most."""
    return Interval(*(round(100 * share_of(odds + side * error), 1) for side in (0, -1, 1)))


def joined(accuracy: Interval, agreement: Interval, teacher: float) -> Interval:
    """The part of the interval of the accuracy that the exact part allows where it agrees as seldom as that interval says.

    Where the two exclude each other the exact part stands alone. No student is expected to be better than its teacher.
    """
    low, high = bounds(teacher, agreement.low)
    if accuracy.low <= high and accuracy.high >= low:
        low, high = max(low, accuracy.low), min(high, accuracy.high)
    low = min(low, teacher)
    value = min(max(min(accuracy.value, teacher), low), high)
    return Interval(round(value, 1), round(low, 1), round(high, 1))


def _unknown(readings: Readings, accuracy: float | None, fit: Fitted) -> str:
    """Why nothing can be said here; empty if something can."""
    if accuracy is None:
        return "nobody has stated the teacher's accuracy; pass --accuracy, or `datafree pack --validate DATA`"
    classes = len(readings.classes)
    if not fit.classes[0] <= classes <= fit.classes[1]:
        return f"the teacher has {classes} classes, and those of the fit had {fit.classes[0]} to {fit.classes[1]}"
    return unsuited(readings, accuracy)


def unsuited(readings: Readings, accuracy: float) -> str:
    """Why the probes of this teacher, which is right about `accuracy` percent of real images, say nothing; empty if they do."""
    late = readings.families["late"]
    if late.teacher_evenness < EVEN:
        share = 100 * late.teacher_evenness
        return f"the probes reach too few of the teacher's classes (their entropy is {share:.0f} % of the largest)"
    if log_odds(late.teacher_hits, late.images) < log_odds(min(accuracy / 100, EASY), 1000) - HARDER:
        return (
            f"the teacher is right about {100 * late.teacher_hits:.0f} % of the probes made for its classes, and about "
            f"{accuracy:.0f} % of real images, so that they are much harder for it"
        )
    return ""


def _findings(readings: Readings) -> Iterator[str]:
    names = range(len(readings.classes))
    evenness = max(each.student_evenness for each in readings.families.values())
    if evenness < COLLAPSED:
        most = max(names, key=lambda each: readings.classes[each].student)
        yield f"It has collapsed: it calls nearly every probe class {most}."
        return
    never = [each for each, seen in enumerate(readings.classes) if seen.teacher >= SEEN and seen.both <= NEVER * seen.teacher]
    agreement = readings.families["late"].agreement
    if agreement < NOTHING / len(readings.classes):
        yield f"It has learnt next to nothing: it agrees on {100 * agreement:.0f} % of images made for the teacher's classes."
    elif never:
        yield f"It has never learnt {'class' if len(never) == 1 else 'classes'} {', '.join(map(str, never))}."


def _weakest(classes: tuple[ClassReading, ...]) -> list[tuple[int, float]]:
    """Classes with the least agreement, of those that were seen often enough."""
    shares = [(each, 100 * seen.both / seen.teacher) for each, seen in enumerate(classes) if seen.teacher >= SEEN]
    return sorted(shares, key=lambda found: found[1])[:WEAKEST]
