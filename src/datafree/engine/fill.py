"""Make a transfer set from a teacher, without a student: batch by batch, in shards that several machines can share."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from datafree.core.files import replace_atomically
from datafree.core.runtime import Runtime
from datafree.data.drawing import save_picture
from datafree.data.pool import Batch
from datafree.data.sets import SetCard, read_files_of, read_set_card, shard_path, write_shard
from datafree.engine.alarm import SetAlarm, refuse_non_finite
from datafree.engine.folder import RunDir
from datafree.engine.interrupts import Interrupted, stoppable
from datafree.engine.log import RunLog
from datafree.engine.method import Problem, Synthesizer
from datafree.engine.parts import parts_of, remove_parts
from datafree.engine.preparation import prepare

# What to do where a number is not finite.
ADVICE = (
    "lower the method's learning rate (--method flags) and name a new file with --out, or use --precision fp32. Of that batch "
    "nothing is stored."
)


@dataclass(frozen=True)
class SetPlan:
    """The size and content of a set: `n` images in batches of `batch`; this is shard `shard`, from 1, of `shards`.

    Batch i belongs to shard i modulo `shards`. Its random numbers depend only on the seed and on i, so the number of shards
    does not change the images. `pixels` is the type of a stored image; `targets` and `logits` say whether those are stored too.
    Raises `ValueError` for numbers that are not possible.
    """

    n: int
    batch: int = 100
    shard: int = 1
    shards: int = 1
    pixels: Literal["uint8", "float16"] = "uint8"
    targets: bool = True
    logits: bool = True

    def __post_init__(self) -> None:
        if not (self.n > 0 and self.batch > 0 and 1 <= self.shard <= self.shards):
            raise ValueError(
                f"Shard {self.shard}/{self.shards} of {self.n} images in batches of {self.batch} is not possible; "
                "count shards from 1, and give at least one image."
            )
        if self.shards > -(-self.n // self.batch):
            raise ValueError(f"{self.n} images are fewer than {self.shards} batches of {self.batch}; use fewer shards.")

    def batches(self) -> list[tuple[int, int]]:
        """Index and size of each batch of this shard."""
        sizes = [min(self.batch, self.n - first) for first in range(0, self.n, self.batch)]
        return [(i, size) for i, size in enumerate(sizes) if i % self.shards == self.shard - 1]


def fill(
    problem: Problem, synthesizer: Synthesizer, runtime: Runtime, plan: SetPlan, out: Path, card: SetCard, quiet: bool = False
) -> Path:
    """Make one shard and return its file; an existing file of the same set is returned as it is.

    Each batch is written when it is done; a kill loses at most one. Raises `ValueError` if the file holds another set, or if
    batches of the method depend on earlier ones and there are several shards, `FloatingPointError` before a number that is not
    finite is stored, and `Interrupted` on Ctrl-C or SIGTERM.
    """
    file = shard_path(out, plan.shard, plan.shards)
    identity = {"card": card.model_dump(mode="json"), "shard": plan.shard}
    if file.exists():
        if read_set_card(file) != card:
            raise ValueError(f"{file} holds another set; name a new file, or give the same settings.")
        remove_parts(file, identity)
        return file
    if plan.shards > 1 and synthesizer.state():
        raise ValueError(
            f"A batch of this method depends on earlier ones, so its set cannot be made in {plan.shards} shards; "
            "leave --shard out."
        )
    with parts_of(file, identity) as run:
        files = _make_batches(problem, synthesizer, runtime, plan, run, quiet)
        made = read_files_of(card, files)
        if len(made) != sum(size for _, size in plan.batches()):
            raise ValueError(f"{run.path} holds batches of another size; delete it to make the set anew.")
        columns = {"pixels": made.pixels, "targets": made.targets, "logits": made.logits}
        for name, picture in synthesizer.pictures().items():
            save_picture(picture, file.with_name(f"{file.stem}-{name}.png"))
        # The set's file comes last: where it exists, all is there.
        write_shard(file, card, {name: torch.cat(parts) for name, parts in columns.items() if parts})
    return file


def _make_batches(
    problem: Problem, synthesizer: Synthesizer, runtime: Runtime, plan: SetPlan, run: RunDir, quiet: bool
) -> list[Path]:
    """Make the batches that do not exist yet, and return the file of every batch."""
    batches = plan.batches()
    files = [run.path / f"{number:08}.safetensors" for number, _ in batches]
    parts = {"runtime": runtime, **synthesizer.state()}
    done, _ = run.restore(parts)
    prepare(synthesizer, runtime, run, parts, quiet)
    log = RunLog(run.log, len(batches), done, quiet, unit="batch")
    alarm = SetAlarm(problem, sum(size for _, size in batches), log.progress.say)
    with stoppable() as stop, contextlib.closing(log):
        for (number, size), file in list(zip(batches, files, strict=True))[done:]:
            if stop.is_set():
                raise Interrupted(
                    f"Stopped after batch {done} of {len(batches)}, saved in {run.path}; the same command resumes."
                )
            runtime.random.manual_seed(runtime.seed * 1_000_003 + number)
            tensors = _stored_tensors(problem, synthesizer.synthesize(size), plan, done + 1)
            values = runtime.drain()
            refuse_non_finite(values, done + 1, "batch", ADVICE)
            replace_atomically(file, lambda temporary, tensors=tensors: save_file(tensors, temporary))  # type: ignore[misc]
            runtime.counters.images += size
            done += 1
            run.save(done, {}, parts)
            log.write(done, values | {"images": runtime.counters.images})
            alarm.check(done, tensors["pixels"], last=done == len(batches))
    return files


def _stored_tensors(problem: Problem, batch: Batch, plan: SetPlan, number: int) -> dict[str, Tensor]:
    """The tensors of batch `number` that the set stores, on the CPU; logits are those of the stored, rounded images."""
    inputs = problem.inputs
    _refuse_non_finite("images", batch.x, number)  # as 8-bit pixels they would be black
    pixels = inputs.to_pixels(batch.x) if plan.pixels == "uint8" else inputs.to_float_pixels(batch.x).half()
    tensors = {"pixels": pixels}
    if plan.targets and batch.y is not None:
        tensors["targets"] = batch.y.half()
    if plan.logits:
        with torch.no_grad():
            tensors["logits"] = problem.teacher(inputs.to_network(pixels)).half()
    for name, value in tensors.items():
        _refuse_non_finite(name, value, number)
    return {name: value.cpu().contiguous() for name, value in tensors.items()}


def _refuse_non_finite(name: str, x: Tensor, number: int) -> None:
    """Raise `FloatingPointError` if x, the `name` of batch `number`, holds a NaN or an infinity."""
    if not x.isfinite().all():
        refuse_non_finite({f"largest of the {name}": x.float().abs().amax().item()}, number, "batch", ADVICE)
