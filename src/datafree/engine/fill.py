"""Fill a transfer set from a teacher alone: resumable batch by batch, in shards that any number of machines can make."""

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from datafree.core.files import replace_atomically
from datafree.core.runtime import Runtime
from datafree.data.drawing import save_picture
from datafree.data.pool import Batch
from datafree.data.sets import SetCard, read_set_card, shard_path, write_shard
from datafree.engine.folder import RunDir
from datafree.engine.interrupts import Interrupted, stoppable
from datafree.engine.log import RunLog
from datafree.engine.method import Problem, Synthesizer
from datafree.engine.preparation import prepare


@dataclass(frozen=True)
class Order:
    """What is to be made: `n` images in batches of `batch`, of which this is shard `shard` of `shards`, from 1.

    Batch i belongs to the shard i modulo `shards`, and its random numbers depend on the seed and on i alone, so the set is
    the same however many make it. `pixels` is how an image is kept; `targets` and `logits` are kept beside it if asked for.
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
            raise ValueError(f"Shard {self.shard}/{self.shards} of {self.n} images is not possible; count shards from 1.")
        if self.shards > -(-self.n // self.batch):
            raise ValueError(f"{self.n} images are fewer than {self.shards} batches of {self.batch}; take fewer shards.")

    def batches(self) -> list[tuple[int, int]]:
        """Number and size of each batch of this shard."""
        sizes = [min(self.batch, self.n - first) for first in range(0, self.n, self.batch)]
        return [(i, size) for i, size in enumerate(sizes) if i % self.shards == self.shard - 1]


def fill(
    problem: Problem, synthesizer: Synthesizer, runtime: Runtime, order: Order, out: Path, card: SetCard, quiet: bool = False
) -> Path:
    """Make one shard and return its file; a file that is there already is given back.

    Each batch is written when it is done; a kill loses at most one. Raises `ValueError` where `out` holds another set, or a
    method with a memory is to be sharded, and `Interrupted` on Ctrl-C or SIGTERM.
    """
    file = shard_path(out, order.shard, order.shards)
    if file.exists():
        if read_set_card(file) != card:
            raise ValueError(f"{file} holds another set; name a new file, or give the same settings.")
        return file
    if order.shards > 1 and synthesizer.state():
        raise ValueError("This method remembers earlier batches, so its set cannot be made in shards; leave --shard out.")
    folder = file.with_name(f"{file.name}.parts")
    with RunDir(folder, {"card": card.model_dump(mode="json"), "shard": order.shard}) as run:
        run.write({"status": "running"})
        parts = _make(problem, synthesizer, runtime, order, run, quiet)
        columns = [load_file(part) for part in parts]
        write_shard(file, card, {name: torch.cat([column[name] for column in columns]) for name in columns[0]})
        _draw(synthesizer, file)
    shutil.rmtree(folder)
    return file


def _make(problem: Problem, synthesizer: Synthesizer, runtime: Runtime, order: Order, run: RunDir, quiet: bool) -> list[Path]:
    """Make the batches that are not there yet, and return every batch's file."""
    batches = order.batches()
    files = [run.path / f"{number:08}.safetensors" for number, _ in batches]
    memory = {"runtime": runtime, **synthesizer.state()}
    done, _ = run.restore(memory)
    prepare(synthesizer, runtime, run, memory, quiet)
    log = RunLog(run.log, len(batches), done, quiet, unit="batch")
    with stoppable() as stop, contextlib.closing(log):
        for (number, size), file in list(zip(batches, files, strict=True))[done:]:
            if stop.is_set():
                raise Interrupted(f"Stopped after batch {done} of {len(batches)}, saved in {run.path}; the same line resumes.")
            runtime.random.manual_seed(runtime.seed * 1_000_003 + number)
            made = _columns(problem, synthesizer.synthesize(size), runtime, order)
            replace_atomically(file, lambda temporary, made=made: save_file(made, temporary))  # type: ignore[misc]
            runtime.counters.images += size
            done += 1
            run.save(done, {}, memory)
            log.write(done, runtime.drain() | {"images": runtime.counters.images})
    return files


def _draw(synthesizer: Synthesizer, file: Path) -> None:
    for name, picture in synthesizer.pictures().items():
        save_picture(picture, file.with_name(f"{file.stem}-{name}.png"))


def _columns(problem: Problem, batch: Batch, runtime: Runtime, order: Order) -> dict[str, Tensor]:
    """What is kept of a batch, on the CPU; the teacher is asked about the images as they are kept."""
    inputs = problem.inputs
    pixels = inputs.to_pixels(batch.x) if order.pixels == "uint8" else inputs.to_float_pixels(batch.x).half()
    columns = {"pixels": pixels}
    if order.targets and batch.y is not None:
        columns["targets"] = batch.y.half()
    if order.logits:
        with torch.no_grad():
            columns["logits"] = problem.teacher(inputs.to_network(pixels)).half()
    return {name: value.cpu().contiguous() for name, value in columns.items()}
