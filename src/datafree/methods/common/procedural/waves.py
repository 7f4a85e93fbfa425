"""Pictures of small random programs: compositional pattern-producing networks (Stanley 2007) of sines."""

import math

import torch
from torch import Tensor

from datafree.core.runtime import Runtime
from datafree.core.spec import Shape

WIDTH = 8  # units in each of two hidden layers
FREQUENCIES = (0.7, 5.0)  # radians from the centre to a side, coarse to fine


def cppn(n: int, shape: Shape, runtime: Runtime) -> Tensor:
    """n images [n, C, H, W] in [0, 1]: each pixel is what a network of the image's own answers to its place x, y, r."""
    channels, height, width = shape
    rows, columns = (
        (torch.arange(side, device=runtime.device) - (side - 1) / 2) * (2 / max(height, width)) for side in (height, width)
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    places = torch.stack([x, y, (x.square() + y.square()).sqrt()]).flatten(1)  # [3, H * W]
    frequency = FREQUENCIES[0] * (FREQUENCIES[1] / FREQUENCIES[0]) ** runtime.uniform(n, 1, 1)
    hidden = (frequency * runtime.noise(n, WIDTH, 3)) @ places + _phases(n, WIDTH, runtime)
    for units in (WIDTH, channels):
        weights = runtime.noise(n, units, WIDTH)
        hidden = torch.baddbmm(_phases(n, units, runtime), weights, hidden.sin_())
    return hidden.sin_().mul_(0.5).add_(0.5).view(n, *shape)


def _phases(n: int, units: int, runtime: Runtime) -> Tensor:
    return 2 * math.pi * runtime.uniform(n, units, 1)
