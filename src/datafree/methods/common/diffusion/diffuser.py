"""The settings and the interface of diffusion models, and the import of the packages that they need."""

import importlib
from abc import ABC, abstractmethod
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from datafree.core.settings import DryRun, Images, Settings, Width
from datafree.core.state import Stateful


class Diffusion(Settings):
    """Which diffusion model makes the variations, and how."""

    pipeline: str = ""
    """A pretrained pipeline, a folder or a hub name; empty: a small model is trained on the bank, which stays data-free."""
    revision: str = ""
    """Revision of a hub name."""
    strength: float = Field(0.5, gt=0, le=1)
    """Noise added to an image before denoising, from 0 (none) to 1 (only noise); pipelines of image variation ignore it."""
    steps: Annotated[PositiveInt, DryRun(2)] = 25
    """Denoising steps from pure noise; a strength of 0.5 needs half of them."""
    guidance: NonNegativeFloat = 3.0
    """Scale of the classifier-free guidance of a pretrained pipeline."""
    side: Width = 512
    """Side of the images that an image-to-image pipeline gets, in pixels."""
    updates: Annotated[NonNegativeInt, DryRun(2)] = 20_000
    """Training steps of the small model."""
    batch: Images = 128
    """Images in a training step of the small model, and in one call of any model."""
    lr: PositiveFloat = 1e-3
    """Initial learning rate of the small model (AdamW), which falls to 0 by a cosine."""
    width: Width = 64
    """Channels of the small model at full size, a multiple of 8; it has twice as many at smaller sizes."""
    ema_decay: float = Field(0.995, ge=0, lt=1)
    """Decay per step of the exponential moving average (EMA) of the small model's weights, which makes the variations."""


class Diffuser(ABC):
    """A diffusion model at work."""

    provenance = "none"
    """Data from outside the run that the model was trained on; `none` if there is none."""

    def training(self) -> tuple[int, int]:
        """Number of slices of the model's training: those done, and all."""
        return 0, 0

    def train(self, bank: Tensor) -> None:
        """Do the next slice of the training, on the images `bank`, uint8 [N, C, H, W]."""

    @abstractmethod
    def vary(self, images: Tensor, strength: float) -> Tensor:
        """One variation of each image, both [B, C, H, W] in [0, 1], detached."""

    def state(self) -> dict[str, Stateful]:
        """Every part that a checkpoint must keep, by name."""
        return {}


def import_package(name: str, without: str = "--method.variations 0") -> Any:
    """The package `diffusers` or `transformers`. Raises `ValueError` where it is missing, with what to install and the flags
    that do `without`.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"This needs the package {name}, which is not installed; pip install 'datafree[diffusion]', or pass "
            f"{without} to go without."
        ) from error
