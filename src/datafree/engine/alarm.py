"""Reports during work that it diverges, or that a student or its images have collapsed; a number not finite ends it."""

import math
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.core.distributed import is_main
from datafree.core.modes import evaluating, keeping_random
from datafree.data.pool import Pool
from datafree.engine.guard import Guard, distance
from datafree.engine.method import Problem
from datafree.networks.outputs import flattened

WATCHED = 64  # images that are looked at
PATIENCE = 3  # looks in a row that must show a collapse
SHARE_OF_TIME = 0.01  # most of the run's time that looks take
RISE = 5.0  # a loss that is that many times its best diverges; in 40 logs of the grid and its trials it rose to at most 1.6
ONE_CLASS = 0.95  # share of the images from which on they count as being of one class
SEVERAL = 0.75  # largest share of the class that the student answers with, in the teacher's answers, for it to be a fault
FEWEST = 8  # images of a set from which on one can tell
# What to do where a number is not finite, in the training of a student.
STUDENT = "lower --plan.lr or the method's learning rate, or use --precision fp32. The last good checkpoint is kept."


class Alarm:
    """Watches the losses of a run and, at times, what the student `kept` and the teacher answer to images of the pool.

    It changes no number of the run: it draws no random number, counts no query, and writes nothing but lines by `say`.
    """

    def __init__(self, problem: Problem, kept: nn.Module, pool: Pool, best: float, say: Callable[[str], None]):
        self.problem, self.kept, self.pool, self.best, self.say = problem, kept, pool, best, say
        self._raised: set[str] = set()
        self._strikes = {"student": 0, "images": 0}
        self._next = 0.0  # time of the next look

    def check(self, round_: int, values: Mapping[str, float], trained: bool) -> None:
        """Look at the `values` of a line of the log, and if it is time at answers; `trained`: the student has had its start."""
        if not is_main():
            return
        if "restarts" in values:
            self.say(f"Round {round_}: the images had collapsed, so the method began anew (restart {values['restarts']:.0f}).")
        loss = values.get("student_loss", math.nan)
        if loss > RISE * self.best > 0:
            self._raise_once(
                "loss",
                f"Round {round_}: the student's loss is {loss:.3g}, {loss / self.best:.0f} times its best, so the student "
                "seems to diverge; if it stays so, use a lower --plan.lr or learning rate of the method.",
            )
        self.best = min(self.best, loss) if loss == loss else self.best
        if trained and time.monotonic() >= self._next and {"student", "images"} - self._raised:
            began = time.monotonic()
            self._look(round_)
            now = time.monotonic()
            self._next = now + (now - began) / SHARE_OF_TIME

    @torch.no_grad()
    def _look(self, round_: int) -> None:
        x = self.pool.spread(WATCHED)
        with keeping_random(x.device), evaluating(self.kept):  # a network may draw numbers even in eval mode
            seen, answered = (_shares(self.problem, network, x) for network in (self.problem.teacher.folded, self.kept))
        one, other = int(seen.argmax()), int(answered.argmax())
        self._strike(
            "images",
            bool(seen[one] >= ONE_CLASS) and self.problem.task == "classification",  # masks may be of little but background
            f"Round {round_}: the teacher sees class {one} in {_percent(seen[one])} of the images that the student learns "
            "from, so they have collapsed; use another --recipe (auto has a guard against it) or --seed.",
        )
        self._strike(
            "student",
            bool(answered[other] >= ONE_CLASS and seen[other] < SEVERAL),
            f"Round {round_}: the student answers {_percent(answered[other])} of the images with class {other}, and the "
            f"teacher {_percent(seen[other])}, so the student has collapsed; use a lower --plan.lr, or --plan.clip 1.",
        )

    def _strike(self, what: str, bad: bool, sentence: str) -> None:
        self._strikes[what] = self._strikes[what] + 1 if bad else 0
        if self._strikes[what] >= PATIENCE:
            self._raise_once(what, sentence)

    def _raise_once(self, what: str, sentence: str) -> None:
        if what not in self._raised:
            self._raised.add(what)
            self.say(sentence)


class SetAlarm:
    """Watches the last images of a set that is being filled with `size` of them, and says once that they have collapsed.

    As `Alarm` it changes no number.
    """

    def __init__(self, problem: Problem, size: int, say: Callable[[str], None]):
        self.problem, self.say = problem, say
        self.enough = min(WATCHED, size)
        self.last: Tensor | None = None  # the last images, pixels [at most WATCHED, C, H, W]
        self._said = False
        self._next = 0.0  # time of the next look

    def check(self, batch: int, pixels: Tensor, last: bool) -> None:
        """Look, if it is time or the `last` batch, at the newest images; `pixels` [B, C, H, W] are those of `batch`."""
        if self._said:
            return
        self.last = (pixels if self.last is None else torch.cat([self.last, pixels]))[-WATCHED:]
        if FEWEST <= self.enough <= len(self.last) and (last or time.monotonic() >= self._next):
            began = time.monotonic()
            if collapse := self._collapse(self.last):
                self._said = True
                seen = f"Batch {batch}: the last {len(self.last)} images have collapsed, {collapse}"
                self.say(f"{seen}; use another --recipe or --seed.")
            now = time.monotonic()
            self._next = now + (now - began) / SHARE_OF_TIME

    @torch.no_grad()
    def _collapse(self, pixels: Tensor) -> str | None:
        teacher = self.problem.teacher
        x = self.problem.inputs.to_network(pixels.to(teacher.runtime.device))
        if distance(x) < Guard().least_distance:
            return "since they are all alike"
        with keeping_random(x.device), evaluating(teacher.folded):
            shares = _shares(self.problem, teacher.folded, x)
        most = int(shares.argmax())
        if shares[most] < ONE_CLASS or self.problem.task != "classification":
            return None
        return f"since the teacher sees class {most} in {_percent(shares[most])} of them"


def diverges(loss: float, best: float, guess: float) -> bool:
    """Whether a `loss` of labels is far above the `best` so far and that of a `guess`: one near zero may rise without harm."""
    return loss > guess and loss > RISE * best


def _shares(problem: Problem, network: nn.Module, x: Tensor) -> Tensor:
    """Share of each class [classes] in the answers of `network` to x, over images or pixels, on the CPU."""
    with problem.teacher.runtime.autocast():
        classes = flattened(network(x)).argmax(1)
    return F.one_hot(classes, problem.classes).float().mean(0).cpu()


def refuse_non_finite(values: Mapping[str, float], number: int, unit: str = "round", advice: str = STUDENT) -> None:
    """Raise `FloatingPointError` if one of `values` is NaN or infinite; `number` counts the work done, in `unit`s."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"The {name} became {value} by {unit} {number}; {advice}")


def _percent(share: Tensor) -> str:
    return f"{100 * share.item():.0f} %"
