"""How a student is trained: the settings of the engine, which are the same for every method."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from datafree.core.settings import DryRun, Images, PerRun, Rounds, Settings
from datafree.engine.guard import Guard


class Plan(Settings):
    """Rounds, steps and the student's optimizer. A round is one synthesis and `steps` steps of the student.

    Raises:
        ValueError: `warmup` leaves no round for the student, or `synthesis_rounds` is given without a pool.
    """

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
    """Images that the method makes in each round; 0: as many as the steps use, steps x batch."""
    pool_size: Annotated[NonNegativeInt, PerRun(), DryRun(16)] = 0
    """Newest images kept in an 8-bit pool that the steps draw from; 0: only the images of the round, used once."""
    warmup: Rounds = 0
    """Rounds that only fill the pool, before the student's first step."""
    synthesis_rounds: Rounds = 0
    """Rounds in which the method makes images; later ones train only on the pool. 0: every round."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """The student's optimizer."""
    lr: PositiveFloat = 0.1
    """The student's initial learning rate."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of sgd; adam ignores it."""
    clip: NonNegativeFloat = 0.0
    """Largest L2 norm of the student's gradient, to which a larger one is scaled down; 0: no limit."""
    weight_decay: NonNegativeFloat = 5e-4
    """L2 penalty on the student's weights."""
    schedule: Literal["constant", "cosine", "steps"] = "constant"
    """How the learning rates of the student and of the method fall over the run."""
    milestones: tuple[PositiveInt, ...] = ()
    """Rounds at which the steps schedule multiplies the learning rates by decay."""
    decay: PositiveFloat = 0.1
    """Factor of the steps schedule."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Decay per step of an exponential moving average (EMA) of the student's weights, which is then the student that is
    returned; 0: no average."""
    log_every: Annotated[PositiveInt, DryRun(1)] = 50
    """Rounds between two lines of log.csv."""
    save_every: Annotated[PositiveInt, DryRun(1)] = 250
    """Rounds between two checkpoints: at most as many are lost by a kill."""
    eval_every: Rounds = 50
    """Rounds between two evaluations on labelled data, which only report; 0: only at the end."""
    grid_every: Rounds = 500
    """Rounds between two image grids; 0: only at the end."""

    guard: Guard = Guard()
    """What counts as a collapse of the images, on which a method begins anew."""

    def rate(self, round_: int) -> float:
        """Factor of every learning rate in a round; cosine falls over the rounds in which the student is trained.

        Args:
            round_: the round, from 0.

        Returns:
            The factor, 1 at the start of the schedule.
        """
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
            raise ValueError(
                f"synthesis_rounds {self.synthesis_rounds} trains later rounds on a pool, and pool_size is 0; "
                "pass --plan.pool-size"
            )
        return self

    def images(self) -> int:
        """Number of images that the method makes in a round."""
        return self.images_per_round or self.steps * self.batch
