"""Plain distillation on existing images: a transfer set, an `.npz`, or a folder of images."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datafree.core.runtime import Runtime
from datafree.core.state import Stateful
from datafree.data.images import check_npz
from datafree.data.pool import Batch
from datafree.data.sets import read_set_card
from datafree.data.unlabelled import read_images
from datafree.engine.look import Look, kd
from datafree.engine.method import Method, Problem, Synthesizer

TEACHER_BATCH = 256  # images in one pass of the teacher that computes the cached logits
RESIDENT = 2 * 2**30  # largest set that is moved to the device at the start, bytes; a larger one is read from its files


class Stored(Method):
    """Settings of distillation on a stored set; labels of the set are ignored."""

    name: Literal["stored"] = "stored"
    """Name of the method."""
    path: Path
    """The set: a transfer set (.safetensors, also in shards), an .npz with images, or a folder of images."""
    look: Look = Look(temperature=4.0)
    """How the student sees the images. They are augmented before they enter a pool, which keeps them in that form."""
    cache: bool = False
    """Compute the teacher's logits once for each image, at the start; only without augmentation."""

    @property
    def needs_gradient(self) -> bool:
        """It only asks the teacher."""
        return False

    def start(self, problem: Problem, runtime: Runtime) -> "StoredSynthesizer":
        """Read the set.

        Args:
            problem: teacher, student and inputs.
            runtime: device, precision and random numbers of the run.

        Returns:
            The synthesizer, which makes the images.

        Raises:
            ValueError: the set cannot be read or holds no image, or `cache` is used together with augmentation.
        """
        problem.refuse_other_tasks("stored", "segmentation")
        if self.cache and self.look != Look(temperature=self.look.temperature):
            raise ValueError(
                "Cached logits are those of images as they are, but --method.look changes them; leave --method.cache out, or "
                "set every augmentation and mixing to 0."
            )
        return StoredSynthesizer(self, problem, runtime)

    def files(self) -> tuple[Path, ...]:
        """The file or folder of the set. Raises `ValueError` for a file that is no set, which may be too large to be hashed."""
        if self.path.is_file():
            if self.path.suffix == ".npz":
                check_npz(self.path, ("images",))
            else:
                read_set_card(self.path)
        return (self.path,)


class StoredSynthesizer(Synthesizer):
    """A stored set at work: it is shuffled anew after each pass over it."""

    def __init__(self, settings: Stored, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.settings = settings
        self.images = read_images(settings.path, problem.inputs)
        if not len(self.images):
            raise ValueError(f"{settings.path} holds no image; name a set with images.")
        small = self.images.nbytes <= RESIDENT
        self.resident = torch.cat(self.images.pixels).to(runtime.device) if small else None
        self.deck = Deck(len(self.images), runtime)
        self.logits = self._all_logits() if settings.cache else None

    def synthesize(self, n: int) -> Batch:
        """The next `n` images of the shuffled set, augmented, or with the teacher's cached logits [n, classes, ...]."""
        rows = self.deck.draw(n)
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
        """The images `rows` [n] of the set, [n, C, H, W] in network units, on the device."""
        pixels = self.images.take(rows.cpu()).to(rows.device) if self.resident is None else self.resident[rows]
        return self.problem.inputs.to_network(pixels)

    def _all_logits(self) -> Tensor:
        """The teacher's logits for every image of the set, [N, classes, ...], fp32."""
        all_rows = torch.arange(len(self.images), device=self.runtime.device)
        with torch.no_grad(), self.runtime.autocast():
            return torch.cat([self.teacher.fast(self._images(rows)).float() for rows in all_rows.split(TEACHER_BATCH)])


class Deck:
    """The indices 0..size-1 in random order, without replacement; shuffled anew when they run out."""

    def __init__(self, size: int, runtime: Runtime):
        self.size, self.runtime = size, runtime
        self.rest = torch.empty(0, dtype=torch.int64, device=runtime.device)

    def draw(self, n: int) -> Tensor:
        """The next `n` indices [n], int64, on the device."""
        while len(self.rest) < n:
            shuffled = torch.randperm(self.size, generator=self.runtime.random, device=self.rest.device)
            self.rest = torch.cat([self.rest, shuffled])
        drawn, self.rest = self.rest[:n], self.rest[n:]
        return drawn

    def state_dict(self) -> dict[str, Any]:
        return {"rest": self.rest.clone()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        rest = state_dict["rest"].to(self.rest.device)
        if bool(((rest < 0) | (rest >= self.size)).any()):
            raise ValueError(f"the images that are left are not among {self.size}")
        self.rest = rest
