"""Shape and scaling of a network's input, and conversion between pixels and network units."""

import math
from functools import lru_cache
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from datafree.core.settings import Settings

Shape = tuple[int, int, int]  # channels, height, width
Side = Annotated[int, Field(ge=1, le=16_384)]
MOST_VALUES = 2**24  # of one input: 3x2048x2048 fits, and takes 50 MB


class InputSpec(Settings):
    """Shape and scaling of one input: `network units = (pixel / 255 - mean) / std`, channel by channel.

    Inside the library images are in network units, as the teacher was trained on them; pixels exist only in files, previews,
    diffusion models and 8-bit pools.

    Raises:
        ValueError: `mean` or `std` has neither one value nor one for each channel, a `std` is not positive, or an input is too
            large.
    """

    shape: tuple[Side, Side, Side]
    """Channels, height and width, the latter two in pixels."""
    mean: tuple[float, ...] = (0.0,)
    """Mean of each channel, of pixels in [0, 1]; one value serves all channels."""
    std: tuple[float, ...] = (1.0,)
    """Standard deviation of each channel, of pixels in [0, 1]; one value serves all channels."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.shape[0]):
                raise ValueError(f"{name} has {len(values)} values for {self.shape[0]} channels; give one, or one a channel")
        if self.values > MOST_VALUES:
            raise ValueError(f"an input of {self} has {self.values:,} values, beyond {MOST_VALUES:,}; give smaller sides")
        if min(self.std) <= 0:
            raise ValueError("std must be positive; pass 1 if inputs are not divided by a standard deviation")
        return self

    @property
    def values(self) -> int:
        """Numbers in one input."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return "x".join(map(str, self.shape))

    def to_network(self, pixels: Tensor) -> Tensor:
        """Convert pixels to network units.

        Args:
            pixels: images [B, C, H, W], uint8 in 0..255 or float in [0, 1].

        Returns:
            The images in network units, [B, C, H, W], float32, on the same device.
        """
        mean, std = _statistics(self, pixels.device)
        scaled = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()
        return (scaled - mean) / std

    def to_float_pixels(self, x: Tensor) -> Tensor:
        """Convert network units to float pixels.

        Args:
            x: images [B, C, H, W], network units.

        Returns:
            The pixels [B, C, H, W], 0 for black and 1 for white, neither rounded nor clipped.
        """
        mean, std = _statistics(self, x.device)
        return x * std + mean

    def to_pixels(self, x: Tensor) -> Tensor:
        """Convert network units to 8-bit pixels.

        Args:
            x: images [B, C, H, W], network units.

        Returns:
            The pixels [B, C, H, W], uint8, rounded and clipped to 0..255.
        """
        return (self.to_float_pixels(x) * 255).round_().clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=64)
def _statistics(spec: InputSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and std as [1, C or 1, 1, 1] on `device`, cached: a copy to the GPU in each call would wait for it."""
    return tuple(torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (spec.mean, spec.std))  # type: ignore[return-value]
