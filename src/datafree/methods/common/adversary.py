"""How strongly images look for what the student gets wrong, over a run."""

from typing import Self

from pydantic import Field, NonNegativeFloat, model_validator

from datafree.core.settings import Settings


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
        return self.weight * max(0.0, done - self.rise_from) / (self.rise_until - self.rise_from)
