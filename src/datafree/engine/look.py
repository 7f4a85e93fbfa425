"""How a student sees images and the teacher's logits for them: augmentation, mixing, and the distillation loss."""

from typing import Self

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor

from datafree.core.settings import Settings
from datafree.data.augment import Augmentation, random_mix


class Look(Settings):
    """How the student sees an image in its steps; the teacher answers the same, so that a mixed image needs no mixed label."""

    temperature: PositiveFloat = 20.0
    """Divides the logits of both networks; the loss is multiplied by its square."""
    augment: Augmentation = Augmentation()
    """How an image changes each time it is seen."""
    mixup: float = Field(0.0, ge=0, le=1)
    """Share of images that are blended with another of their batch (arXiv 1710.09412), in a uniformly drawn proportion."""
    cutmix: float = Field(0.0, ge=0, le=1)
    """Share of images in which a rectangle comes from another of their batch (arXiv 1905.04899), of uniformly drawn area."""

    @model_validator(mode="after")
    def _leaves_a_share(self) -> Self:
        if self.mixup + self.cutmix > 1:
            raise ValueError(
                f"mixup {self.mixup} and cutmix {self.cutmix} are shares of the same images; give at most 1 together"
            )
        return self

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """`x` [B, C, H, W] in network units, augmented, then mixed."""
        return self.mix(self.augment(x, generator), generator)

    def mix(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """`x` [B, C, H, W] in network units, mixed only."""
        return random_mix(x, self.mixup, self.cutmix, generator) if self.mixup or self.cutmix else x


def kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Knowledge distillation (Hinton et al., arXiv 1503.02531): T^2 KL(teacher / T || student / T).

    Both are raw logits with the classes in dim 1; mean over batch and positions, in fp32.
    """
    log_q = F.log_softmax(student.float() / temperature, dim=1)
    log_p = F.log_softmax(teacher.float() / temperature, dim=1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1).mean() * temperature**2
