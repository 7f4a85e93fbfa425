"""How strongly images look for what the student gets wrong, over a run, and the term that does it."""

from collections.abc import Iterator
from typing import Self

from pydantic import Field, NonNegativeFloat, model_validator
from torch import Tensor, nn

from datafree.core.runtime import Runtime
from datafree.core.settings import Settings
from datafree.methods.common.inversion import Terms
from datafree.methods.common.losses import agreed_divergence


class Adversary(Settings):
    """Weight of the student's disagreement in what images are made for; it may rise over the run, since a student that has
    learned nothing yet disagrees everywhere (the curriculum of CuDFKD, Information Sciences 2023).
    """

    weight: NonNegativeFloat = 1.0
    """Weight when it has risen; 0: images need no student."""
    rise_from: float = Field(0.0, ge=0, le=1)
    """Share of the run until which the weight is 0."""
    rise_until: float = Field(0.0, ge=0, le=1)
    """Share of the run from which it is whole; it rises evenly between the two."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.rise_until < self.rise_from:
            raise ValueError(f"rise_until {self.rise_until} lies before rise_from {self.rise_from}; give a later one")
        return self

    def at(self, done: float) -> float:
        """The weight when that share of the run is done."""
        if done >= self.rise_until:
            return self.weight
        if done <= self.rise_from:
            return 0.0
        return self.weight * (done - self.rise_from) / (self.rise_until - self.rise_from)


def decision_adversary(weight: float, student: nn.Module, runtime: Runtime) -> Terms:
    """What lowers an inversion's loss where the student is far from the teacher and yet of its opinion: -weight times the mean
    KL(teacher || student) where both choose one class (CMI, arXiv 2105.08584). With weight 0 the student is not asked.
    """

    def terms(images: Tensor, view: Tensor, logits: Tensor) -> Iterator[Tensor]:
        if weight:
            with runtime.autocast():
                own = student(view)
            yield -weight * agreed_divergence(own, logits)

    return terms
