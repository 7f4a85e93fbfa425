"""More procedural images than are needed, of which those are kept that make the teacher's classes even."""

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from datafree.core.runtime import Runtime
from datafree.core.settings import Images, Settings
from datafree.core.state import Stateful
from datafree.engine.method import Problem
from datafree.methods.common.procedural.pictures import draw

TOGETHER = 2**24  # most values of the images that are drawn together
Family = Literal["leaves", "textured", "clouds", "cppn"]


class Supply(Settings):
    """What is drawn, and how much of it is kept."""

    families: Annotated[tuple[Family, ...], Field(min_length=1)] = ("leaves", "textured", "clouds", "cppn")
    """What is drawn, in equal parts: dead leaves, the same filled with textures, 1/f clouds, networks of sines."""
    symmetric: float = Field(0.5, ge=0, le=1)
    """Share of images whose right half mirrors the left one, as so many things look from the front (ours)."""
    candidates: PositiveInt = 4
    """Images drawn for each that is kept. Segmentation keeps all that it draws, since a class there is a pixel's."""
    batch: Images = 128
    """Images kept at a time, fewer of large ones; the teacher is asked about `candidates` times as many together."""


class Supplier:
    """Draws images and keeps some of them, with the classes of all that it has kept in mind."""

    def __init__(self, settings: Supply, problem: Problem, runtime: Runtime):
        self.settings, self.problem, self.runtime = settings, problem, runtime
        self.tally = Tally(problem.classes, runtime.device) if problem.task == "classification" else None
        self.several = settings.candidates if self.tally else 1

    def __call__(self, n: int) -> Tensor:
        """n images [n, C, H, W] in network units; logs how even the classes of all images so far are."""
        most = TOGETHER // (self.problem.inputs.values * self.several)
        batch = max(1, min(self.settings.batch, most))
        x = torch.cat([self._some(min(batch, n - done)) for done in range(0, n, batch)])
        if self.tally:
            self.runtime.note("class_entropy", self.tally.entropy())
            self.runtime.note("largest_class", self.tally.largest())
        return x

    def state(self) -> dict[str, Stateful]:
        """Every part that must survive a restart, by name."""
        return {"tally": self.tally} if self.tally else {}

    def _some(self, n: int) -> Tensor:
        settings, inputs = self.settings, self.problem.inputs
        x = inputs.to_network(draw(self.several * n, settings.families, inputs.shape, self.runtime, settings.symmetric))
        if not self.tally:
            return x
        with torch.no_grad(), self.runtime.autocast():
            classes = self.problem.teacher.fast(x).argmax(1)
        return x[self.tally.choose(classes, n)]


class Tally:
    """How many images of each class have been kept; chooses the next ones so that the counts come out even."""

    def __init__(self, classes: int, device: torch.device):
        self.counts = torch.zeros(classes, dtype=torch.int64, device=device)

    def choose(self, classes: Tensor, n: int) -> Tensor:
        """Which n of the candidates, by their classes [m], to keep: row numbers [n], in the candidates' order.

        A candidate's place is the count that its class reaches with it, if all of the class before it are kept. To keep the n
        lowest places is to give each image in turn to the rarest class that still has a candidate.
        """
        members = classes[:, None] == torch.arange(len(self.counts), device=classes.device)  # [m, classes]
        place = (self.counts + members.cumsum(0)).gather(1, classes[:, None])[:, 0]
        kept = place.sort(stable=True).indices[:n].sort().values
        self.counts = self.counts + members[kept].sum(0)
        return kept

    def entropy(self) -> Tensor:
        """Entropy of the classes kept so far, relative to that of equal counts: 1 where they are even."""
        share = self.counts / self.counts.sum()
        return torch.special.entr(share).sum() / math.log(max(2, len(share)))  # type: ignore[no-any-return]

    def largest(self) -> Tensor:
        """Share of the commonest class among those kept so far."""
        return self.counts.max() / self.counts.sum()

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self.counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        counts = state_dict["counts"].to(self.counts.device)
        if counts.shape != self.counts.shape or bool((counts < 0).any()):
            raise ValueError(f"the counts are not those of {len(self.counts)} classes")
        self.counts = counts
