"""Random images that an inversion starts from, made only from seeded random numbers."""

import torch.nn.functional as F
from torch import Tensor

from datafree.core.runtime import Runtime

OCTAVES = (8, 4, 2, 1)  # distances between two random values, pixels
CONTRAST = 1.5  # change of brightness for each standard deviation of the field
DARKEST = 2.0  # highest level below which an image is black, standard deviations of the field


def uniform(n: int, shape: tuple[int, int, int], runtime: Runtime) -> Tensor:
    """`n` images [n, C, H, W] of independent pixels, uniform in [0, 1)."""
    return runtime.uniform(n, *shape)


def clouds(n: int, shape: tuple[int, int, int], runtime: Runtime) -> Tensor:
    """`n` images [n, C, H, W] of [0, 1] pixels: random fields of several scales, black below a level.

    The weight of each scale, the level and the brightness are drawn for each image, so that some images are dense and grainy,
    others a few smooth strokes on black.
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


NOISES = {"uniform": uniform, "clouds": clouds}
