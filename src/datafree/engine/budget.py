"""The number of rounds that fits a budget of time or of images."""

import copy
import dataclasses
import math
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import torch

from datafree.core.distributed import broadcast, is_main
from datafree.core.runtime import Runtime
from datafree.engine.folder import RunDir
from datafree.engine.log import seconds_of
from datafree.engine.loop import Job, run
from datafree.engine.method import Problem
from datafree.engine.plan import Plan
from datafree.engine.preparation import PREPARATION
from datafree.engine.progress import print_line
from datafree.engine.recipe import Recipe
from datafree.engine.record import earlier_plan

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
ROUNDS, MOST_ROUNDS = 2, 12  # measured rounds of each kind; the first is left out, since it includes the start
MEASURED = 0.03  # share of the time that measuring more than the fewest rounds may take
MARGIN = 0.95  # planned share of the time, since rounds differ in length


@dataclass(frozen=True)
class Budget:
    """Either time, in seconds of a clock, or the number of images that the method makes."""

    seconds: float | None = None
    images: int | None = None
    clock: Literal["wall", "cpu"] = "wall"
    """CPU time is that of this process, all its threads: the fair measure between runs on a machine that is shared."""


def parse_budget(text: str) -> Budget:
    """The budget in `90s`, `20m`, `1.5h`, `15m-cpu` or `50000images`. Raises `ValueError` for any other text."""
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])(-cpu)?", text.strip()):
        return Budget(seconds=float(found[1]) * _SECONDS[found[2]], clock="cpu" if found[3] else "wall")
    if found := re.fullmatch(r"(\d+)\s*images", text.strip()):
        return Budget(images=int(found[1]))
    raise ValueError(
        f"The budget {text!r} is neither a time nor a number of images; write 20m, 1.5h, 90s, 15m-cpu or 50000images."
    )


@dataclass(frozen=True)
class Pace:
    """Time of the parts of a run, seconds of the budget's clock."""

    prepare: float  # all work before the first round
    make: float  # making the images of one round
    learn: float  # the student's steps in one round
    slice: float = 0.0  # one slice of the preparation

    def seconds(self, plan: Plan) -> float:
        """Time of a run by `plan`, seconds."""
        return self.prepare + _making_rounds(plan) * self.make + (plan.rounds - plan.warmup) * self.learn


def measure(problem: Problem, recipe: Recipe, clock: str = "wall", seconds: float = 0.0) -> Pace:
    """Measure a few rounds of `recipe` on copies, in a folder that is deleted afterwards; `problem` does not change.

    Where a small share of `seconds` allows it more rounds are measured, and the median taken. With several processes the result
    of rank 0 is valid, the others return zeros.
    """
    given = problem.teacher.runtime
    runtime = Runtime(str(given.device), given.precision, given.seed, given.compile)
    with torch.random.fork_rng(devices=[given.device] if given.device.type == "cuda" else []):
        first = _measured(problem, recipe, runtime, clock, ROUNDS)
        slices = first.slice + 2 * (first.make + first.learn)
        rounds = int((MEASURED * seconds - slices) / max(2 * first.make + first.learn, 1e-9))
        rounds = broadcast(min(MOST_ROUNDS, rounds))
        return _measured(problem, recipe, runtime, clock, rounds) if rounds > 2 * ROUNDS else first


def _measured(problem: Problem, recipe: Recipe, runtime: Runtime, clock: str, rounds: int) -> Pace:
    """Run `rounds` that only make images, then as many in which the student learns, and read their times from the log."""
    never, fills_set = 10**9, recipe.plan.synthesis_rounds > 0
    plan = recipe.plan.model_copy(
        update={"rounds": 2 * rounds, "warmup": rounds, "synthesis_rounds": rounds if fills_set else 0, "log_every": 1}
        | {"pool_size": min(recipe.plan.pool_size, 2 * rounds * recipe.plan.images())}
        | {"save_every": never, "eval_every": 0, "grid_every": 0}
    )
    teacher = copy.copy(problem.teacher)  # the same network, with other counters
    teacher.runtime = runtime
    copied = dataclasses.replace(problem, teacher=teacher, student=copy.deepcopy(problem.student))
    synthesizer = recipe.method.start(copied, runtime)
    done, total = synthesizer.preparation()
    with tempfile.TemporaryDirectory(prefix="datafree-") as path, RunDir(path, {"measured": True}) as folder:
        run(Job(copied, synthesizer, plan, runtime, folder, quiet=True, slices=1))
        slices, times = seconds_of(folder.path / PREPARATION, clock), seconds_of(folder.log, clock)
    if not is_main():
        return Pace(0, 0, 0)
    make = median(times[1:rounds])
    learn = median(times[rounds + 1 :]) - (0 if fills_set else make)
    return Pace(sum(slices) * (total - done), make, max(learn, 1e-9), sum(slices))


def stretched(plan: Plan, budget: Budget, pace: Pace | None = None) -> Plan:
    """`plan` with as many rounds as fit `budget`, each phase scaled by the same factor; a budget of time needs `pace`.

    Evaluations and image grids stay as many as they were.

    Raises `ValueError` if the budget is too small for one round of the student.
    """
    if budget.images is not None:
        factor = budget.images / (plan.images() * _making_rounds(plan))
    else:
        assert budget.seconds is not None
        assert pace is not None
        factor = (MARGIN * budget.seconds - pace.prepare) / (pace.seconds(plan) - pace.prepare)
    least = 1 / (plan.rounds - plan.warmup)
    if factor < least:
        raise ValueError(
            f"The budget is enough for {max(0.0, factor):.2g} of the recipe's rounds, but one round of the student takes "
            f"{least:.2g} of them; give more, or a smaller recipe (--plan.steps, --plan.batch, --method flags)."
        )

    def scaled(rounds: int) -> int:
        return max(1, math.floor(factor * rounds)) if rounds else 0

    warmup, synthesis_rounds = scaled(plan.warmup), scaled(plan.synthesis_rounds)
    keeps_all = plan.synthesis_rounds and plan.pool_size == plan.synthesis_rounds * plan.images()
    changes = {
        "rounds": warmup + scaled(plan.rounds - plan.warmup),
        "warmup": warmup,
        "synthesis_rounds": synthesis_rounds,
        "pool_size": synthesis_rounds * plan.images() if keeps_all else plan.pool_size,
        "milestones": tuple(scaled(each) for each in plan.milestones),
        **{name: scaled(getattr(plan, name)) for name in ("eval_every", "grid_every")},
    }
    return plan.model_copy(update=changes)


def fit_to_budget(recipe: Recipe, budget: str, problem: Problem, out: str | Path | None, quiet: bool) -> Recipe:
    """The recipe with its rounds scaled to `budget`; if the run in `out` was started with that budget, with its plan.

    The time that measuring takes is part of the budget, but never more than half of it.

    Raises `ValueError` as `parse_budget` and `stretched` do.
    """
    if out and (earlier := earlier_plan(Path(out), budget)):
        return dataclasses.replace(recipe, plan=Plan(**earlier))
    limit, silent = parse_budget(budget), quiet or not is_main()
    now = time.process_time if limit.clock == "cpu" else time.monotonic
    began = now()
    if limit.seconds:
        print_line(f"budget {budget}: measuring a few rounds", silent)
    pace = broadcast(measure(problem, recipe.per_process(), limit.clock, limit.seconds)) if limit.seconds else None
    if limit.seconds:
        left = max(limit.seconds / 2, limit.seconds - (now() - began))
        limit = Budget(seconds=broadcast(left))
    plan = stretched(recipe.plan, limit, pace)
    print_line(f"budget {budget}: {_summary(plan, pace)} (the recipe's own: {recipe.plan.rounds:,} rounds)", silent)
    return dataclasses.replace(recipe, plan=plan)


def _summary(plan: Plan, pace: Pace | None) -> str:
    """Rounds, images and, with `pace`, expected time of a run by `plan`, in one line."""
    time_ = f", about {_duration(pace.seconds(plan))}" if pace else ""
    return f"{plan.rounds:,} rounds, {plan.images() * _making_rounds(plan):,} images{time_}"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _making_rounds(plan: Plan) -> int:
    """Number of rounds in which images are made."""
    return plan.synthesis_rounds or plan.rounds
