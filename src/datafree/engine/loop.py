"""The only training loop for students: rounds of synthesis and student steps."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from datafree.core.distributed import any_rank, is_main, mean_buffers, parallel
from datafree.core.runtime import Runtime
from datafree.core.state import Stateful
from datafree.data.drawing import save_grid, save_picture
from datafree.data.pool import Batch, Pool
from datafree.engine.alarm import Alarm, refuse_non_finite
from datafree.engine.folder import RunDir
from datafree.engine.guard import Watch
from datafree.engine.interrupts import Interrupted, stoppable
from datafree.engine.log import RunLog
from datafree.engine.method import Problem, Synthesizer
from datafree.engine.plan import Plan
from datafree.engine.preparation import prepare

GRID_IMAGES = 64
STARTED = 0.1  # share of the rounds after which a student that answers with one class is reported


@dataclass
class Clock:
    """The round that a run has reached, and the seconds that it has taken over all its sessions."""

    round: int = 0
    before: dict[str, float] = field(default_factory=lambda: {"wall": 0.0, "cpu": 0.0})
    began: tuple[float, float] = field(default_factory=lambda: (time.monotonic(), time.process_time()))

    def seconds(self) -> dict[str, float]:
        """Wall and CPU time so far, seconds."""
        wall, cpu = time.monotonic() - self.began[0], time.process_time() - self.began[1]
        return {"wall": self.before["wall"] + wall, "cpu": self.before["cpu"] + cpu}


@dataclass(frozen=True)
class Job:
    """Everything that one run needs.

    `evaluate` returns a student's scores by name. `draw` turns images, uint8 [N, C, H, W], into pictures of the same form and
    the number of pictures in a row (None: a square grid). Both only report.
    """

    problem: Problem
    synthesizer: Synthesizer
    plan: Plan
    runtime: Runtime
    folder: RunDir
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None
    draw: Callable[[Tensor], tuple[Tensor, int | None]] = lambda pixels: (pixels, None)
    quiet: bool = False
    tensorboard: bool = False
    limit: tuple[str, float] | None = None  # a clock, wall or cpu, and the seconds of it after which the run ends its round
    slices: int | None = None  # largest number of slices of preparation, in a run that only measures

    def is_over(self, clock: Clock) -> bool:
        """Whether the run has done all its rounds, or used up its time."""
        late = self.limit is not None and clock.seconds()[self.limit[0]] >= self.limit[1]
        return clock.round >= self.plan.rounds or late


def run(job: Job) -> tuple[nn.Module, Clock, RunLog]:
    """Train the student for `plan.rounds` rounds, from the folder's checkpoint if it has one.

    Returns the student to keep (with `ema_decay` the averaged one), the clock and the closed log. Raises `Interrupted` after
    saving if asked to stop, and `FloatingPointError` if a loss or the student's weights are no longer finite.
    """
    plan, runtime, synthesizer, student = job.plan, job.runtime, job.synthesizer, job.problem.student
    optimizer = _optimizer(plan, [*student.parameters(), *synthesizer.student_parameters()])
    optimizers = (optimizer, *synthesizer.optimizers())
    initial = [[group["lr"] for group in each.param_groups] for each in optimizers]
    average = _average(plan, student)
    pool = Pool(job.problem.inputs, plan.pool_size, runtime.device, synthesizer.reads_targets, job.problem.classes)
    parts: dict[str, Stateful] = {"student": student, "optimizer": optimizer, "pool": pool, "runtime": runtime}
    parts |= {"average": average} if average else {}
    watch = Watch(plan.guard, job.problem)
    parts |= {"guard": watch} if plan.guard.every else {}
    parts |= {f"method.{name}": part for name, part in synthesizer.state().items()}

    clock = Clock()
    clock.round, spent = job.folder.restore(parts)
    clock.before |= spent
    prepare(synthesizer, runtime, job.folder, parts, job.quiet, clock.seconds, job.slices)
    log = RunLog(job.folder.log, plan.rounds, clock.round, job.quiet, job.tensorboard)
    kept, trainable = average.module if average else student, runtime.compiled(parallel(student))
    alarm = Alarm(job.problem, kept, pool, log.least("student_loss"), log.progress.say)
    student.train()
    with stoppable() as stop, contextlib.closing(log):
        (last,) = any_rank(job.is_over(clock))
        while not last:
            _set_rates(optimizers, initial, plan.rate(clock.round))
            synthesizer.at(clock.round / plan.rounds)
            if not plan.synthesis_rounds or clock.round < plan.synthesis_rounds:
                fresh = synthesizer.synthesize(plan.images())
                runtime.counters.images += len(fresh.x)
                pool.add(fresh)
                watch.look(fresh.x, clock.round)
            if clock.round >= plan.warmup:
                for batch in pool.batches(plan.steps, plan.batch, runtime.random):
                    runtime.minimize(_losses(job, trainable, batch), optimizer, plan.clip)
                    if average:
                        average.update_parameters(student)
            clock.round += 1
            log.progress.advance(clock.round)
            mean_buffers(student)
            mean_buffers(kept)
            last, stopping = any_rank(job.is_over(clock), stop.is_set())
            _after_round(job, clock, log, kept, pool, watch, alarm, parts, last, stopping)
    return kept, clock, log


def _after_round(
    job: Job,
    clock: Clock,
    log: RunLog,
    kept: nn.Module,
    pool: Pool,
    watch: Watch,
    alarm: Alarm,
    parts: dict[str, Stateful],
    last: bool,
    stopping: bool,
) -> None:
    """Log, evaluate, draw and save if due after this round. The run waits for the device only here."""
    plan = job.plan

    def due(every: int) -> bool:
        return last or (every > 0 and clock.round % every == 0)

    if due(plan.log_every) or due(plan.save_every) or due(plan.eval_every) or stopping:
        values = job.runtime.drain()
        refuse_non_finite(values, clock.round)
        if watch.collapsed(values) and job.synthesizer.restart():
            values["restarts"] = watch.restarts
        alarm.check(clock.round, values, clock.round - plan.warmup >= STARTED * (plan.rounds - plan.warmup))
        if job.evaluate and is_main() and due(plan.eval_every):
            values |= job.evaluate(kept)
        if values or due(plan.log_every):
            spent = {f"{name}_s": seconds for name, seconds in clock.seconds().items()}
            log.write(clock.round, values | {"images": job.runtime.totals()["images"]} | spent)
    if is_main() and due(plan.grid_every):
        pictures, columns = job.draw(pool.newest(GRID_IMAGES))
        save_grid(pictures, job.folder.images / f"round-{clock.round:06}.png", columns)
        for name, picture in job.synthesizer.pictures().items():
            save_picture(picture, job.folder.images / f"{name}.png")
    if due(plan.save_every) or stopping:
        # A step can make the weights non-finite after a finite loss; that checkpoint would replace the last good one.
        norm = torch.nn.utils.get_total_norm(job.problem.student.parameters())
        refuse_non_finite({"norm of the student's weights": norm.item()}, clock.round)
        job.folder.save(clock.round, clock.seconds(), parts)
    if stopping and not last:
        where = f"round {clock.round} of {plan.rounds}, saved in {job.folder.path}"
        raise Interrupted(f"Stopped after {where}; the same command resumes.")


def _losses(job: Job, trainable: nn.Module, batch: Batch) -> Iterator[Tensor]:
    """The step's loss in parts whose sum it is, each computed when the one before it has given its gradient."""
    size = len(batch.x)
    part = job.plan.micro_batch or size
    for first in range(0, size, part):
        some = batch.part(slice(first, first + part))
        with job.runtime.autocast():
            loss = job.synthesizer.loss(trainable, some)
        job.runtime.note("student_loss", loss)
        yield loss if part >= size else loss * (len(some.x) / size)


def _average(plan: Plan, student: nn.Module) -> AveragedModel | None:
    if not plan.ema_decay:
        return None
    # torch's own EMA: it keeps buffers too and is a module, so that it saves, loads and evaluates like the student.
    return AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(plan.ema_decay), use_buffers=True)


def _optimizer(plan: Plan, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    weights = [weight for weight in parameters if weight.requires_grad]
    if plan.optimizer == "adam":
        return torch.optim.Adam(weights, plan.lr, weight_decay=plan.weight_decay, fused=True)
    return torch.optim.SGD(weights, plan.lr, plan.momentum, weight_decay=plan.weight_decay, fused=True)


def _set_rates(optimizers: tuple[torch.optim.Optimizer, ...], initial: list[list[float]], rate: float) -> None:
    """Set each learning rate to its initial value times `rate`; a schedule without state needs no checkpoint."""
    for optimizer, starts in zip(optimizers, initial, strict=True):
        for group, start in zip(optimizer.param_groups, starts, strict=True):
            group["lr"] = start * rate
