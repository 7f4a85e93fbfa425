"""A run as long as its budget: so much wall time, or so many images."""

import copy
import dataclasses
import math
import re
import time
from dataclasses import dataclass

import torch

from datafree.method import Problem
from datafree.plan import Plan
from datafree.recipe import Recipe
from datafree.runtime import Runtime
from datafree.transfer import Pool

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
MARGIN = 0.95  # of the time is planned with, for rounds are not all alike


@dataclass(frozen=True)
class Budget:
    """Wall time in seconds or a number of images that the method makes; one of the two."""

    seconds: float | None = None
    images: int | None = None


def parse_budget(text: str) -> Budget:
    """`90s`, `20m`, `1.5h`, `50000images`. Raises `ValueError`."""
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip()):
        return Budget(seconds=float(found[1]) * _SECONDS[found[2]])
    if found := re.fullmatch(r"(\d+)\s*images", text.strip()):
        return Budget(images=int(found[1]))
    raise ValueError(f"The budget {text!r} is neither a time nor images; write 20m, 1.5h, 90s or 50000images.")


@dataclass(frozen=True)
class Pace:
    """Seconds of what a run is made of."""

    prepare: float  # all of what comes before the first round
    make: float  # images of one round
    learn: float  # the student's steps of one round

    def seconds(self, plan: Plan) -> float:
        """What `plan` takes."""
        return self.prepare + _making(plan) * self.make + (plan.rounds - plan.warmup) * self.learn


def measure(problem: Problem, recipe: Recipe, runtime: Runtime, rounds: int = 2) -> Pace:
    """The pace of a few rounds of `recipe`, on copies: nothing of the problem or of the run's random numbers is touched."""
    with torch.random.fork_rng(devices=[runtime.device] if runtime.device.type == "cuda" else []):
        return _measured(problem, recipe, runtime, rounds)


def _measured(problem: Problem, recipe: Recipe, runtime: Runtime, rounds: int) -> Pace:
    plan, own = recipe.plan, Runtime(str(runtime.device), runtime.precision, runtime.seed, runtime.compile)
    student = copy.deepcopy(problem.student)
    method, learner = recipe.method.start(dataclasses.replace(problem, student=student), own), own.compiled(student)
    pool = Pool(problem.inputs, min(plan.keep, plan.images() * (rounds + 1)), own.device)
    before = dict(problem.teacher.runtime.counts)
    done, total = method.preparation()
    began = time.monotonic()
    if total > done:
        method.prepare()
    prepare = (time.monotonic() - began) * (total - done)
    make, learn = [], []
    student.train()
    for _ in range(rounds + 1):
        began = time.monotonic()
        pool.add(method.synthesize(plan.images()))
        make.append(time.monotonic() - began)
        began = time.monotonic()
        for batch in pool.batches(plan.steps, plan.batch, own.random):
            with own.autocast():
                loss = method.loss(learner, batch)
            loss.backward()  # type: ignore[no-untyped-call]
        own.drain()
        learn.append(time.monotonic() - began)
    problem.teacher.runtime.counts = before
    return Pace(prepare, min(make[1:]), min(learn[1:]))


def stretched(plan: Plan, budget: Budget, pace: Pace | None = None) -> Plan:
    """`plan` with as many rounds as `budget` holds, each phase by the same factor; time needs a `pace`.

    Raises `ValueError` for a budget that does not hold a round of each phase.
    """
    if budget.images is not None:
        factor = budget.images / (plan.images() * _making(plan))
    else:
        assert budget.seconds is not None
        assert pace is not None
        factor = (MARGIN * budget.seconds - pace.prepare) / (pace.seconds(plan) - pace.prepare)
    least = 1 / min(size for size in (plan.rounds - plan.warmup, plan.warmup, plan.fill) if size)
    if factor < least:
        raise ValueError(
            f"The budget holds {max(0.0, factor):.2g} of the recipe's rounds, and {least:.2g} are one round of each phase; "
            "give more, or a smaller recipe (--plan.steps, --plan.batch, --method flags)."
        )

    def scaled(rounds: int) -> int:
        return max(1, math.floor(factor * rounds)) if rounds else 0

    warmup, fill = scaled(plan.warmup), scaled(plan.fill)
    rounds = warmup + scaled(plan.rounds - plan.warmup)
    keep = fill * plan.images() if plan.fill and plan.keep == plan.fill * plan.images() else plan.keep
    changes = {"rounds": rounds, "warmup": warmup, "fill": fill, "keep": keep}
    return plan.model_copy(update={**changes, "milestones": tuple(scaled(each) for each in plan.milestones)})


def expected(plan: Plan, pace: Pace | None) -> str:
    """What a run by `plan` will be, in a line."""
    time_ = f", about {_words(pace.seconds(plan))}" if pace else ""
    return f"{plan.rounds:,} rounds, {plan.images() * _making(plan):,} images{time_}"


def _words(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _making(plan: Plan) -> int:
    """Rounds in which images are made."""
    return plan.fill or plan.rounds
