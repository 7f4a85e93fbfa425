"""How a student is trained: the settings that belong to the engine, whatever the method."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from datafree.core.settings import DryRun, Images, PerRun, Rounds, Settings
from datafree.engine.guard import Guard


class Plan(Settings):
    """Rounds, steps and the student's optimizer. A round is one synthesis and `steps` steps of the student."""

    rounds: Annotated[PositiveInt, DryRun(2)] = 2000
    """Rounds of the whole run."""
    steps: Annotated[PositiveInt, DryRun(1)] = 5
    """Student steps in a round."""
    batch: Images = 256
    """Images in a student step."""
    micro_batch: NonNegativeInt = 0
    """Most images of a step that go through the networks together, their gradients summed up, where memory is short; batch
    norms in the student then see these. 0: all of them."""
    images_per_round: Annotated[NonNegativeInt, PerRun(), DryRun(8)] = 0
    """Images asked of the method each round; 0: what the steps need, steps x batch."""
    pool_size: Annotated[NonNegativeInt, PerRun(), DryRun(16)] = 0
    """Newest images kept in an 8-bit pool that the steps draw from; 0: each round's own images, used once."""
    warmup: Rounds = 0
    """Rounds that only fill the pool, before the student's first step."""
    synthesis_rounds: Rounds = 0
    """Rounds in which the method is asked for images; later ones train on the pool alone. 0: every round."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """The student's optimizer."""
    lr: PositiveFloat = 0.1
    """The student's learning rate at the start."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of sgd; adam ignores it."""
    clip: NonNegativeFloat = 0.0
    """Largest L2 norm of the student's gradient, to which a larger one is scaled down; 0: no limit."""
    weight_decay: NonNegativeFloat = 5e-4
    """L2 penalty on the student's weights."""
    schedule: Literal["constant", "cosine", "steps"] = "constant"
    """How learning rates (the student's and the method's own) fall over the run."""
    milestones: tuple[PositiveInt, ...] = ()
    """Rounds at which the `steps` schedule multiplies the rates by `decay`."""
    decay: PositiveFloat = 0.1
    """Factor of the `steps` schedule."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Decay per step of an exponential average of the student's weights, which is then what is returned; 0: the last."""
    log_every: Annotated[PositiveInt, DryRun(1)] = 50
    """Rounds between two lines of log.csv."""
    save_every: Annotated[PositiveInt, DryRun(1)] = 250
    """Rounds between two checkpoints: the most that a kill can cost."""
    eval_every: Rounds = 50
    """Rounds between two evaluations, where there is data to evaluate on; they only report. 0: at the end only."""
    grid_every: Rounds = 500
    """Rounds between two image grids; 0: at the end only."""

    guard: Guard = Guard()
    """What counts as a collapse of the images, on which a method begins anew."""

    def rate(self, round_: int) -> float:
        """Multiplier of every learning rate in round `round_`, counted from 0; cosine falls over the student's rounds."""
        if self.schedule == "cosine":
            done = max(0, round_ - self.warmup) / max(1, self.rounds - self.warmup)
            return 0.5 * (1 + math.cos(math.pi * done))
        if self.schedule == "steps":
            return self.decay ** sum(round_ >= milestone for milestone in self.milestones)
        return 1.0

    @model_validator(mode="after")
    def _has_images(self) -> Self:
        if self.warmup >= self.rounds:
            raise ValueError(f"warmup {self.warmup} leaves no round for the student; give more rounds than {self.warmup}")
        if self.synthesis_rounds and not self.pool_size:
            raise ValueError("fill trains later rounds on a pool, and keep 0 keeps none; pass --plan.pool-size")
        return self

    def images(self) -> int:
        """Images asked of the method in a round."""
        return self.images_per_round or self.steps * self.batch
