"""Random pictures that an inversion can start from, made of nothing but seeded random numbers."""

import torch.nn.functional as F
from torch import Tensor

from datafree.core.runtime import Runtime

OCTAVES = (8, 4, 2, 1)  # pixels between two random values, coarse to fine
CONTRAST = 1.5  # how fast a cloud fades at its edge, per deviation of the field
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


NOISES = {"uniform": uniform, "clouds": clouds}
