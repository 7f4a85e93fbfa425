"""Plain distillation on inputs that already exist: a transfer set, an `.npz`, or a folder of unlabelled images."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datafree.core.runtime import Runtime
from datafree.core.state import Stateful
from datafree.data.pool import Batch
from datafree.data.unlabelled import read_images
from datafree.engine.look import Look, kd
from datafree.engine.method import Method, Problem, Synthesizer

TEACHER_BATCH = 256  # images that the teacher is asked about together where its logits are kept
RESIDENT = 2 * 2**30  # bytes of a set that are moved to the device at the start; a larger one is read from its files


class Stored(Method):
    """Settings of distillation on a stored set. Labels, where the set has some, are not looked at."""

    name: Literal["stored"] = "stored"
    path: Path
    """The set: a transfer set (.safetensors, also in shards), an .npz with `images`, or a folder of images."""
    look: Look = Look(temperature=4.0)
    """How the student sees the images; an image is augmented when it is dealt, so that a pool keeps it as it then was."""
    cache: bool = False
    """Ask the teacher about each image once, at the start, and keep its logits; for images that nothing augments."""

    def start(self, problem: Problem, runtime: Runtime) -> "StoredSynthesizer":
        """Read the set. Raises `ValueError` where it cannot be read, or holds no image, and for kept logits of images that are
        augmented.
        """
        problem.refuse_other_tasks("stored", "segmentation")
        if self.cache and self.look != Look(temperature=self.look.temperature):
            raise ValueError(
                "Kept logits are of images as they are; leave --method.cache out, or set every augmentation and mixing to 0."
            )
        return StoredSynthesizer(self, problem, runtime)

    def files(self) -> tuple[Path, ...]:
        return (self.path,)


class StoredSynthesizer(Synthesizer):
    """A stored set at work: it is dealt out in a new order each time it has been gone through."""

    def __init__(self, settings: Stored, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.settings = settings
        self.images = read_images(settings.path, problem.inputs)
        if not len(self.images):
            raise ValueError(f"{settings.path} holds no image; name a set with some.")
        small = self.images.nbytes <= RESIDENT
        self.resident = torch.cat(self.images.pixels).to(runtime.device) if small else None
        self.deck = Deck(len(self.images), runtime)
        self.logits = self._answers() if settings.cache else None

    def synthesize(self, n: int) -> Batch:
        """The next n images of the shuffled set, augmented, or with the teacher's kept logits [n, classes, ...]."""
        rows = self.deck.deal(n)
        x = self.settings.look.augment(self._images(rows), self.runtime.random)
        return Batch(x, logits=None if self.logits is None else self.logits[rows])

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """Knowledge distillation on mixed images, the teacher queried anew where its logits are not kept."""
        look = self.settings.look
        if batch.logits is not None:
            return kd(student(batch.x), batch.logits, look.temperature)
        x = look.mix(batch.x, self.runtime.random)
        with torch.no_grad():
            answer = self.teacher.fast(x)
        return kd(student(x), answer, look.temperature)

    def state(self) -> dict[str, Stateful]:
        return {"deck": self.deck}

    def provenance(self) -> str:
        return self.images.card.provenance

    def _images(self, rows: Tensor) -> Tensor:
        """Those of the set, in network units, on the device."""
        pixels = self.images.take(rows.cpu()).to(rows.device) if self.resident is None else self.resident[rows]
        return self.problem.inputs.to_network(pixels)

    def _answers(self) -> Tensor:
        """The teacher's logits for every image of the set [N, classes, ...]."""
        everything = torch.arange(len(self.images), device=self.runtime.device)
        with torch.no_grad(), self.runtime.autocast():
            return torch.cat([self.teacher.fast(self._images(rows)).float() for rows in everything.split(TEACHER_BATCH)])


class Deck:
    """The numbers 0..size-1 dealt without replacement, shuffled anew when they run out."""

    def __init__(self, size: int, runtime: Runtime):
        self.size, self.runtime = size, runtime
        self.rest = torch.empty(0, dtype=torch.int64, device=runtime.device)

    def deal(self, n: int) -> Tensor:
        """The next n indices [n], on the device."""
        while len(self.rest) < n:
            fresh = torch.randperm(self.size, generator=self.runtime.random, device=self.rest.device)
            self.rest = torch.cat([self.rest, fresh])
        hand, self.rest = self.rest[:n], self.rest[n:]
        return hand

    def state_dict(self) -> dict[str, Any]:
        return {"rest": self.rest.clone()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rest = state_dict["rest"].to(self.rest.device)
