"""Procedural images, chosen so that the teacher's classes are even (after Frank & Davis, CVPR 2025, arXiv 2411.12817).

Shapes, textures and small programs are drawn at random, several times as many as are needed; the teacher names a class for
each, and those of the rarest classes so far are kept. No gradient, no batch norm, no generator: a teacher that only answers
is enough.
"""

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from datafree.core.runtime import Runtime
from datafree.core.settings import Images
from datafree.core.state import Stateful
from datafree.data.augment import Augmentation
from datafree.data.pool import Batch
from datafree.engine.look import Look
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.common.procedural.pictures import draw

Family = Literal["leaves", "textured", "clouds", "cppn"]


class Procedural(Method):
    """Settings of procedural images."""

    name: Literal["procedural"] = "procedural"
    families: Annotated[tuple[Family, ...], Field(min_length=1)] = ("leaves", "textured", "clouds", "cppn")
    """What is drawn, in equal parts: dead leaves, the same filled with textures, 1/f clouds, networks of sines."""
    candidates: PositiveInt = 4
    """Images drawn for each that is kept. Segmentation keeps all that it draws, since a class there is a pixel's."""
    batch: Images = 128
    """Images kept at a time; the teacher is asked about `candidates` times as many together."""
    look: Look = Look(temperature=20.0, augment=Augmentation(shift=0.1, scale=0.1, degrees=10), mixup=1.0)
    """How the student sees the images. Add flip for objects."""

    def start(self, problem: Problem, runtime: Runtime) -> "ProceduralSynthesizer":
        """Serves any teacher. Raises `ValueError` for a task that it does not serve."""
        problem.refuse_other_tasks("procedural", "segmentation")
        return ProceduralSynthesizer(self, problem, runtime)


class ProceduralSynthesizer(Synthesizer):
    """Procedural images at work: many are drawn, and those of rare classes kept."""

    def __init__(self, settings: Procedural, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.settings = settings
        self.tally = Tally(problem.classes, runtime.device) if problem.task == "classification" else None

    def synthesize(self, n: int) -> Batch:
        """n images, without targets."""
        batch = self.settings.batch
        x = torch.cat([self._images(min(batch, n - done)) for done in range(0, n, batch)])
        if self.tally:
            self.runtime.note("class_entropy", self.tally.entropy())
            self.runtime.note("largest_class", self.tally.largest())
        return Batch(x)

    def state(self) -> dict[str, Stateful]:
        return {"tally": self.tally} if self.tally else {}

    def _images(self, n: int) -> Tensor:
        """n images in network units, of as even classes as their candidates allow."""
        settings, inputs = self.settings, self.problem.inputs
        several = settings.candidates if self.tally else 1
        x = inputs.to_network(draw(several * n, settings.families, inputs.shape, self.runtime))
        if not self.tally:
            return x
        with torch.no_grad(), self.runtime.autocast():
            classes = self.teacher.fast(x).argmax(1)
        return x[self.tally.choose(classes, n)]


class Tally:
    """How many images of each class have been kept; chooses the next ones so that the counts come out even."""

    def __init__(self, classes: int, device: torch.device):
        self.counts = torch.zeros(classes, dtype=torch.int64, device=device)

    def choose(self, classes: Tensor, n: int) -> Tensor:
        """Which n of the candidates, by their classes [m], to keep: row numbers [n], in the candidates' order.

        A candidate's place is the count that its class reaches with it, if all earlier ones of the class are kept. To keep the
        n first places is to give each image in turn to the rarest class that still has a candidate.
        """
        members = classes[:, None] == torch.arange(len(self.counts), device=classes.device)  # [m, classes]
        place = (self.counts + members.cumsum(0)).gather(1, classes[:, None])[:, 0]
        kept = place.sort(stable=True).indices[:n].sort().values
        self.counts = self.counts + members[kept].sum(0)
        return kept

    def entropy(self) -> Tensor:
        """Entropy of the classes kept so far, relative to that of equal counts: 1 where they are even."""
        share = self.counts / self.counts.sum()
        return torch.special.entr(share).sum() / math.log(max(2, len(share)))

    def largest(self) -> Tensor:
        """Share of the commonest class among those kept so far."""
        return self.counts.max() / self.counts.sum()

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self.counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.counts = state_dict["counts"].to(self.counts.device)
