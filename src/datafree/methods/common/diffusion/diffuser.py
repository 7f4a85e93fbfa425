"""What a diffuser is, and the way to the package that the models come from."""

import importlib
from abc import ABC, abstractmethod
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from datafree.core.settings import DryRun, Images, Settings
from datafree.core.state import Stateful


class Diffusion(Settings):
    """Which diffusion model makes the variations, and how."""

    pipeline: str = ""
    """A pretrained pipeline, a folder or a hub name; empty: a small model is trained on the bank, which stays data-free."""
    revision: str = ""
    """Revision of a hub name."""
    strength: float = Field(0.5, gt=0, le=1)
    """How far an image is taken back to noise, as a share of the way; image variation takes no account of it."""
    steps: Annotated[PositiveInt, DryRun(2)] = 25
    """Denoising steps from pure noise; a strength of 0.5 takes half of them."""
    guidance: NonNegativeFloat = 3.0
    """Classifier-free guidance of a pretrained pipeline."""
    side: PositiveInt = 512
    """Pixels a side that an image-to-image pipeline is given."""
    updates: Annotated[NonNegativeInt, DryRun(2)] = 20_000
    """Training steps of the small model."""
    batch: Images = 128
    """Images in such a step, or in one call of any model."""
    lr: PositiveFloat = 1e-3
    """Learning rate of the small model (AdamW), which falls to nothing by a cosine."""
    width: PositiveInt = 64
    """Channels of the small model at full size, a multiple of 8; twice as many below."""
    ema_decay: float = Field(0.995, ge=0, lt=1)
    """Decay per step of the average of the small model's weights, which is what makes the variations."""


class Diffuser(ABC):
    """A diffusion model at work."""

    provenance = "none"
    """Which data outside of the run formed it; `none` where nothing did."""

    def training(self) -> tuple[int, int]:
        """Slices of its training done, and in all."""
        return 0, 0

    def train(self, bank: Tensor) -> None:
        """The next slice of its training, on 8-bit pixels [N, C, H, W]."""

    @abstractmethod
    def vary(self, images: Tensor, strength: float) -> Tensor:
        """One variation of each image, both [B, C, H, W] in [0, 1], detached."""

    def state(self) -> dict[str, Stateful]:
        """Every part that must survive a restart, by name."""
        return {}


def package(name: str, without: str = "--method.variations 0") -> Any:
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
