"""Random pictures, made of nothing but seeded random numbers: to start an inversion from, or to look at as they are."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from datafree.runtime import Runtime

OCTAVES = (8, 4, 2, 1)  # pixels between two random values, coarse to fine
CONTRAST = 1.5  # how fast a cloud fades at its edge, per deviation of the field
LEAVES = 24  # shapes in a picture of dead leaves
SMALLEST, LARGEST = 0.08, 0.96  # their radii, in halves of a side
DARKEST = 2.0  # highest level that is cut off, in deviations of the field


def uniform(n: int, shape: tuple[int, int, int], runtime: Runtime) -> Tensor:
    """n images [n, C, H, W] of independent pixels, uniform in [0, 1)."""
    return runtime.uniform(n, *shape)


def clouds(n: int, shape: tuple[int, int, int], runtime: Runtime) -> Tensor:
    """n clouds [n, C, H, W] in [0, 1] pixels: random fields of several scales, everything below a level black.

    The scales' shares, the level and the brightness are drawn for each image, so that some are dense and grainy, others a
    few smooth strokes on black.
    """
    channels, *side = shape
    field = sum(
        runtime.uniform(n, 1, 1, 1)
        * F.interpolate(runtime.noise(n, channels, *(-(-size // octave) for size in side)), side, mode="bicubic")
        for octave in OCTAVES
    )
    assert isinstance(field, Tensor)
    field = field / field.std((1, 2, 3), keepdim=True)
    lit = (0.5 + CONTRAST * (field - DARKEST * runtime.uniform(n, 1, 1, 1))).clamp(0, 1)
    return lit * runtime.uniform(n, 1, 1, 1).sqrt()


def dead_leaves(n: int, shape: tuple[int, int, int], runtime: Runtime) -> Tensor:
    """n pictures [n, C, H, W] in [0, 1] pixels of overlapping shapes, large ones behind small ones, each with its colour and
    some texture.

    The occlusion model of natural images (Lee, Mumford and Huang 2001); that networks learn to see from such pictures is in
    Baradad et al., arXiv 2106.05963. Ellipses and boxes, 24 of them, with sizes, colours, contrast and brightness of our own.
    """
    channels, height, width = shape
    down = torch.linspace(-1, 1, height, device=runtime.device)[:, None]
    across = torch.linspace(-1, 1, width, device=runtime.device)
    radii = (SMALLEST * (LARGEST / SMALLEST) ** runtime.uniform(n, LEAVES)).sort(dim=1, descending=True).values
    stretch, angle = torch.exp(runtime.uniform(n, LEAVES) - 0.5), math.pi * runtime.uniform(n, LEAVES)
    middle, boxes = 2.4 * runtime.uniform(2, n, LEAVES) - 1.2, runtime.uniform(n, LEAVES) < 0.5
    colours, roughness = 2 * runtime.uniform(n, LEAVES, channels) - 1, 0.5 * runtime.uniform(n, LEAVES).square()
    texture = pink(n, shape, runtime)
    picture = (2 * runtime.uniform(n, channels, 1, 1) - 1).expand(n, *shape)
    for i in range(LEAVES):
        x, y = across - _wide(middle[0, :, i]), down - _wide(middle[1, :, i])
        cosine, sine = _wide(angle[:, i].cos()), _wide(angle[:, i].sin())
        along = (cosine * x + sine * y) / _wide(radii[:, i] * stretch[:, i])
        aside = (cosine * y - sine * x) / _wide(radii[:, i] / stretch[:, i])
        box, ellipse = torch.maximum(along.abs(), aside.abs()), torch.hypot(along, aside)
        inside = torch.where(_wide(boxes[:, i]), box, ellipse) < 1
        leaf = colours[:, i, :, None, None] + roughness[:, i, None, None, None] * texture.roll((5 * i, 7 * i), (2, 3))
        picture = torch.where(inside[:, None], leaf, picture)
    colourful, contrast = runtime.uniform(n, 1, 1, 1), 0.1 + 0.9 * runtime.uniform(n, 1, 1, 1)
    gray = picture.mean(dim=1, keepdim=True)
    brightness = 1.2 * runtime.uniform(n, 1, 1, 1) - 0.6
    signed: Tensor = contrast * (gray + colourful * (picture - gray)) + brightness
    return (signed.clamp(-1, 1) + 1) / 2


def pink(n: int, shape: tuple[int, int, int], runtime: Runtime) -> Tensor:
    """n fields [n, C, H, W] of noise whose amplitude falls with its frequency, mean 0 and deviation 1 in each channel."""
    _, height, width = shape
    across, down = (torch.fft.fftfreq(side, device=runtime.device).square() for side in (width, height))
    field: Tensor = torch.fft.ifft2(torch.fft.fft2(runtime.noise(n, *shape)) / (across + down[:, None] + 1e-4).sqrt()).real
    centred: Tensor = field - field.mean((2, 3), keepdim=True)
    return centred / field.std((2, 3), keepdim=True)


def _wide(values: Tensor) -> Tensor:
    """[n] as [n, 1, 1]."""
    return values[:, None, None]


NOISES = {"uniform": uniform, "clouds": clouds}
