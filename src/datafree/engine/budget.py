"""A run as long as its budget: so much wall time, or so many images."""

import copy
import dataclasses
import math
import re
import tempfile
from dataclasses import dataclass

import torch

from datafree.core.distributed import is_main
from datafree.core.runtime import Runtime
from datafree.engine.folder import RunDir
from datafree.engine.log import seconds_of
from datafree.engine.loop import Job, run
from datafree.engine.method import Problem
from datafree.engine.plan import Plan
from datafree.engine.preparation import PREPARATION
from datafree.engine.recipe import Recipe

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
ROUNDS = 3  # of each kind that are measured; the first also pays for a start
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


def measure(problem: Problem, recipe: Recipe) -> Pace:
    """The pace of a few rounds of `recipe`, in a folder that is thrown away and on copies: nothing of the problem changes.

    Of several processes rank 0 knows it.
    """
    given = problem.teacher.runtime
    with torch.random.fork_rng(devices=[given.device] if given.device.type == "cuda" else []):
        return _measured(problem, recipe, Runtime(str(given.device), given.precision, given.seed, given.compile))


def _measured(problem: Problem, recipe: Recipe, runtime: Runtime) -> Pace:
    """By the loop itself: rounds that only make images, then rounds in which the student learns, each of them logged."""
    never, filled = 10**9, recipe.plan.synthesis_rounds > 0
    plan = recipe.plan.model_copy(
        update={"rounds": 2 * ROUNDS, "warmup": ROUNDS, "synthesis_rounds": ROUNDS if filled else 0, "log_every": 1}
        | {"pool_size": min(recipe.plan.pool_size, 2 * ROUNDS * recipe.plan.images())}
        | {"save_every": never, "eval_every": 0, "grid_every": 0}
    )
    teacher = copy.copy(problem.teacher)  # the same network, counted elsewhere
    teacher.runtime = runtime
    own = dataclasses.replace(problem, teacher=teacher, student=copy.deepcopy(problem.student))
    synthesizer = recipe.method.start(own, runtime)
    done, total = synthesizer.preparation()
    with tempfile.TemporaryDirectory(prefix="datafree-") as scratch, RunDir(scratch, {"measured": True}) as folder:
        run(Job(own, synthesizer, plan, runtime, folder, quiet=True, slices=1))
        slices, rounds = seconds_of(folder.path / PREPARATION), seconds_of(folder.log)
    if not is_main():
        return Pace(0, 0, 0)
    make = min(rounds[1:ROUNDS])
    learn = min(rounds[ROUNDS + 1 :]) - (0 if filled else make)
    return Pace(sum(slices) * (total - done), make, max(learn, 1e-9))


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
    least = 1 / min(size for size in (plan.rounds - plan.warmup, plan.warmup, plan.synthesis_rounds) if size)
    if factor < least:
        raise ValueError(
            f"The budget holds {max(0.0, factor):.2g} of the recipe's rounds, and {least:.2g} are one round of each phase; "
            "give more, or a smaller recipe (--plan.steps, --plan.batch, --method flags)."
        )

    def scaled(rounds: int) -> int:
        return max(1, math.floor(factor * rounds)) if rounds else 0

    warmup, filling = scaled(plan.warmup), scaled(plan.synthesis_rounds)
    whole = plan.synthesis_rounds and plan.pool_size == plan.synthesis_rounds * plan.images()
    changes = {
        "rounds": warmup + scaled(plan.rounds - plan.warmup),
        "warmup": warmup,
        "synthesis_rounds": filling,
        "pool_size": filling * plan.images() if whole else plan.pool_size,
        "milestones": tuple(scaled(each) for each in plan.milestones),
    }
    return plan.model_copy(update=changes)


def expected(plan: Plan, pace: Pace | None) -> str:
    """What a run by `plan` will be, in a line."""
    time_ = f", about {_clock(pace.seconds(plan))}" if pace else ""
    return f"{plan.rounds:,} rounds, {plan.images() * _making(plan):,} images{time_}"


def _clock(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _making(plan: Plan) -> int:
    """Rounds in which images are made."""
    return plan.synthesis_rounds or plan.rounds
