"""Random fields whose spectrum falls as a power of the frequency, as that of natural images does."""

import math

import torch
from torch import Tensor

from datafree.core.runtime import Runtime
from datafree.core.spec import Shape

GRAINY, SMOOTH = (0.5, 2.5), (1.5, 3.0)  # exponents of amplitude against frequency
STRETCH = 3.0  # most times that a field is longer than it is wide


def clouds(n: int, shape: Shape, runtime: Runtime) -> Tensor:
    """n coloured clouds [n, C, H, W]: fields of random phases, each image's mixed into channels at random."""
    channels, height, width = shape
    return (runtime.noise(n, channels, channels) @ power_law(n, channels, (height, width), runtime).flatten(2)).view(n, *shape)


def power_law(
    n: int, channels: int, size: tuple[int, int], runtime: Runtime, exponents: tuple[float, float] = GRAINY
) -> Tensor:
    """n x channels independent fields [n, channels, *size], standardised; exponent, stretch and direction drawn per image."""
    height, width = size
    exponent, stretch, angle = runtime.uniform(3, n, 1, 1, 1)
    exponent = exponents[0] + (exponents[1] - exponents[0]) * exponent
    stretch, angle = torch.exp((stretch - 0.5) * math.log(STRETCH)), angle * math.pi
    rows = torch.fft.fftfreq(height, 1 / max(size), device=runtime.device)[:, None]
    columns = torch.fft.rfftfreq(width, 1 / max(size), device=runtime.device)
    along = (rows * angle.cos() + columns * angle.sin()) * stretch
    across = (columns * angle.cos() - rows * angle.sin()) / stretch
    amplitude = (along.square() + across.square()).clamp_min(1e-6) ** (-exponent / 2)
    amplitude = torch.where(rows.square() + columns.square() > 0, amplitude, 0.0)  # the mean is not part of a texture
    phases = torch.complex(*runtime.noise(2, n, channels, height, width // 2 + 1))
    return standardised(torch.fft.irfft2(phases * amplitude, s=size))


def standardised(x: Tensor) -> Tensor:
    """Each image of x [n, ...] at mean 0 and deviation 1; a constant one becomes 0."""
    deviation, mean = torch.std_mean(x.flatten(1), dim=1, correction=0)
    sides = (-1, *[1] * (x.dim() - 1))
    return (x - mean.view(sides)) / deviation.clamp_min(1e-6).view(sides)
