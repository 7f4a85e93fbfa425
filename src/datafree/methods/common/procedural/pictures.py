"""Procedural pictures of several families, in colour and grey, whole and on black, of random contrast and brightness."""

import torch
import torch.nn.functional as F
from torch import Tensor

from datafree.core.runtime import Runtime
from datafree.core.spec import Shape
from datafree.methods.common.procedural.fields import SMOOTH, clouds, power_law, standardised
from datafree.methods.common.procedural.leaves import leaves, textured
from datafree.methods.common.procedural.waves import cppn

FAMILIES = {"leaves": leaves, "textured": textured, "clouds": clouds, "cppn": cppn}
GREY = 0.3  # share of images without colour; the others have from none to all that they were drawn with
DARK, STROKES = 0.5, 0.3  # shares: of images that are cut out of black, and of strokes among those
CONTRAST = (0.1, 0.4)  # an image's deviation, before what is too dark or too bright is cut off
LEVEL = (0.3, 0.7)  # its mean
COARSE = 16  # side of the field that becomes an outline
BLOB, STROKE = (0.15, 0.75), (0.08, 0.3)  # share of an image inside its outline
PULL = 4.0  # how strongly, at most, outlines keep to the middle


def draw(n: int, families: tuple[str, ...], shape: Shape, runtime: Runtime, symmetric: float = 0.0) -> Tensor:
    """n pictures [n, C, H, W] in [0, 1] pixels, as many of each family as of any other, in random order.

    In a share `symmetric` of them the right half mirrors the left one.
    """
    shares = [len(range(i, n, len(families))) for i in range(len(families))]
    pictures = torch.cat([FAMILIES[name](share, shape, runtime) for name, share in zip(families, shares, strict=True) if share])
    x = finished(pictures, runtime)
    x = torch.where(runtime.uniform(n, 1, 1, 1) < symmetric, mirrored(x), x)
    return x[torch.randperm(n, generator=runtime.random, device=runtime.device)]


def mirrored(x: Tensor) -> Tensor:
    """x [n, C, H, W] with the left half of each picture, mirrored, in place of the right one."""
    half = x.shape[3] // 2
    return torch.cat([x[..., : x.shape[3] - half], x[..., :half].flip(3)], dim=3)


def finished(x: Tensor, runtime: Runtime) -> Tensor:
    """x [n, C, H, W] as pixels in [0, 1]: each image's saturation, contrast and level are drawn, some are cut out of black."""
    colour, dark, contrast, level = runtime.uniform(4, len(x), 1, 1, 1)
    x = standardised(torch.lerp(x.mean(1, keepdim=True), x, _between((-GREY / (1 - GREY), 1.0), colour).clamp_min_(0)))
    x = (x * _between(CONTRAST, contrast) + _between(LEVEL, level)).clamp_(0, 1)
    height, width = x.shape[2:]
    return torch.where(dark < DARK, x * outlines(len(x), (height, width), runtime), x)


def outlines(n: int, size: tuple[int, int], runtime: Runtime) -> Tensor:
    """n masks [n, 1, H, W], 1 inside: blobs, where a smooth field is high, and strokes, where it is near a level."""
    kind, pull, level, lit = runtime.uniform(4, n, 1, 1, 1)
    axis = torch.linspace(-1, 1, COARSE, device=runtime.device)
    field = power_law(n, 1, (COARSE, COARSE), runtime, SMOOTH) - PULL * pull * (axis.square() + axis.square()[:, None])
    strokes = kind < STROKES

    def height_of(field: Tensor) -> Tensor:
        return torch.where(strokes, -(field - _between((-1.0, 1.0), level)).abs(), field)

    share = torch.where(strokes, _between(STROKE, lit), _between(BLOB, lit))
    lowest = height_of(field).flatten(1).sort(dim=1).values.gather(1, ((1 - share) * COARSE**2).long().flatten(1))
    whole = height_of(F.interpolate(field, size, mode="bicubic", align_corners=False)) - lowest[..., None, None]
    return (0.5 + max(size) / 4 * whole).clamp_(0, 1)  # an edge is about a pixel wide


def _between(limits: tuple[float, float], share: Tensor) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * share
