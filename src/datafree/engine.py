"""The only loop of the library."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from datafree.images import save_grid
from datafree.method import Problem, Stateful, Synthesizer
from datafree.plan import Plan
from datafree.rundir import RunDir, refuse_non_finite
from datafree.runlog import RunLog
from datafree.runtime import Runtime
from datafree.transfer import Batch, TransferSet

GRID_IMAGES = 64


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop (Ctrl-C, SIGTERM) and saved itself first."""


@dataclass
class Clock:
    """Where a run stands: the round, and the seconds it has cost over all its sessions."""

    round: int = 0
    before: dict[str, float] = field(default_factory=lambda: {"wall": 0.0, "cpu": 0.0})
    began: tuple[float, float] = field(default_factory=lambda: (time.monotonic(), time.process_time()))

    def seconds(self) -> dict[str, float]:
        """Wall and CPU seconds so far."""
        wall, cpu = time.monotonic() - self.began[0], time.process_time() - self.began[1]
        return {"wall": self.before["wall"] + wall, "cpu": self.before["cpu"] + cpu}


def run(
    problem: Problem,
    synthesizer: Synthesizer,
    plan: Plan,
    runtime: Runtime,
    folder: RunDir,
    evaluate: Callable[[nn.Module], float] | None = None,
    quiet: bool = False,
    tensorboard: bool = False,
) -> tuple[nn.Module, Clock, RunLog]:
    """Train `problem.student` for `plan.rounds` rounds, from the folder's checkpoint where there is one.

    Returns the student to keep (the averaged one where the plan averages), the clock and the closed log. Raises
    `Interrupted` after saving when asked to stop, and `FloatingPointError` where a loss is no longer finite.
    """
    student = problem.student
    optimizer = _optimizer(plan, student)
    optimizers = (optimizer, *synthesizer.optimizers())
    initial = [[group["lr"] for group in each.param_groups] for each in optimizers]
    average = (
        AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(plan.average), use_buffers=True) if plan.average else None
    )
    pool = TransferSet(problem.inputs, plan.keep, runtime.device)
    parts: dict[str, Stateful] = {"student": student, "optimizer": optimizer, "pool": pool, "runtime": runtime}
    parts |= {"average": average} if average else {}
    parts |= {f"method.{name}": part for name, part in synthesizer.state().items()}

    clock = Clock()
    clock.round, spent = folder.restore(parts)
    clock.before |= spent
    log = RunLog(folder.log, plan.rounds, clock.round, quiet, tensorboard)
    kept = average.module if average else student
    student.train()
    with _stoppable() as stop, contextlib.closing(log):
        while clock.round < plan.rounds:
            _set_rates(optimizers, initial, plan.rate(clock.round))
            batch = synthesizer.synthesize(plan.images())
            runtime.counts["images"] += len(batch.x)
            pool.add(batch)
            if clock.round >= plan.warmup:
                for batch in pool.batches(plan.steps, plan.batch, runtime.random):
                    with runtime.autocast():
                        loss = synthesizer.loss(student, batch)
                    runtime.minimize(loss, optimizer)
                    runtime.note("student_loss", loss)
                    if average:
                        average.update_parameters(student)
            clock.round += 1
            last = clock.round == plan.rounds
            due = {name: last or (every and clock.round % every == 0) for name, every in _intervals(plan).items()}
            if due["log"] or due["save"] or due["eval"] or stop.is_set():
                values = runtime.drain()
                refuse_non_finite(values, clock.round)
                if evaluate and due["eval"]:
                    values["accuracy"] = evaluate(kept)
                if values:
                    log.write(clock.round, values | {"images": runtime.counts["images"], "wall_s": clock.seconds()["wall"]})
            if due["grid"]:
                _grid(problem, batch, folder, clock.round)
            if due["save"] or stop.is_set():
                # A step may break the weights after a loss that was fine; such a checkpoint would bury the good one.
                norm = torch.nn.utils.get_total_norm(student.parameters())
                refuse_non_finite({"norm of the student's weights": norm.item()}, clock.round)
                folder.save(clock.round, clock.seconds(), parts)
            if stop.is_set() and not last:
                raise Interrupted(
                    f"Stopped after round {clock.round} of {plan.rounds}, saved in {folder.path}; the same line resumes."
                )
    return kept, clock, log


def _optimizer(plan: Plan, student: nn.Module) -> torch.optim.Optimizer:
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    if plan.optimizer == "adam":
        return torch.optim.Adam(weights, plan.lr, weight_decay=plan.weight_decay, fused=True)
    return torch.optim.SGD(weights, plan.lr, plan.momentum, weight_decay=plan.weight_decay, fused=True)


def _set_rates(optimizers: tuple[torch.optim.Optimizer, ...], initial: list[list[float]], rate: float) -> None:
    """Learning rates as a function of the round alone, so that nothing of a schedule needs saving."""
    for optimizer, starts in zip(optimizers, initial, strict=True):
        for group, start in zip(optimizer.param_groups, starts, strict=True):
            group["lr"] = start * rate


def _intervals(plan: Plan) -> dict[str, int]:
    return {"log": plan.log_every, "save": plan.save_every, "eval": plan.eval_every, "grid": plan.grid_every}


def _grid(problem: Problem, batch: Batch, folder: RunDir, round_: int) -> None:
    pixels = problem.inputs.to_pixels(batch.x[:GRID_IMAGES])
    save_grid(pixels, folder.images / f"round-{round_:06}.png")


@contextlib.contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """Inside, the first Ctrl-C or SIGTERM sets the event, so that the round is finished and saved; the second acts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def ask(number: int, frame: object) -> None:
        stop.set()
        for each in signals:
            signal.signal(each, before[each] or signal.SIG_DFL)

    for number in signals:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number in signals:
            signal.signal(number, before[number] or signal.SIG_DFL)
