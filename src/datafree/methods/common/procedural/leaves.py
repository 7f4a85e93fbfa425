"""Dead leaves (Lee, Mumford, Huang, IJCV 2001): shapes of all sizes that cover each other, plain or textured."""

import math

import torch
from torch import Tensor

from datafree.core.runtime import Runtime
from datafree.core.spec import Shape
from datafree.methods.common.procedural.fields import power_law

LEAVES = 64  # an image; what they leave free is one more, behind them
SMALLEST = (0.03, 0.3)  # radius; each image draws the least of its leaves from here
STRETCH = 3.0  # most times that a leaf is longer than it is wide
TEXTURES = 3  # an image; its leaves take turns
TOGETHER = 2**17  # pixels that are painted together, so that they stay in a processor's cache


def leaves(n: int, shape: Shape, runtime: Runtime) -> Tensor:
    """n images [n, C, H, W] in [0, 1] of plain leaves, their colours uniform."""
    channels, *size = shape
    front = front_leaf(n, (size[0], size[1]), runtime).flatten(1)[:, None].expand(-1, channels, -1)
    return runtime.uniform(n, channels, LEAVES + 1).gather(2, front).view(n, *shape)


def textured(n: int, shape: Shape, runtime: Runtime) -> Tensor:
    """n images [n, C, H, W] of leaves that are filled from `TEXTURES` fields, each leaf in colours of its own."""
    channels, height, width = shape
    front = front_leaf(n, (height, width), runtime).flatten(1)[:, None]
    texture = power_law(n, TEXTURES, (height, width), runtime).flatten(2).gather(1, front % TEXTURES)
    front = front.expand(-1, channels, -1)
    colour, contrast = runtime.uniform(n, channels, LEAVES + 1), 0.25 * runtime.noise(n, channels, LEAVES + 1)
    return torch.addcmul(colour.gather(2, front), contrast.gather(2, front), texture).view(n, *shape)


def front_leaf(n: int, size: tuple[int, int], runtime: Runtime) -> Tensor:
    """Number [n, H, W] of the leaf that lies in front at each pixel, 0 where there is none.

    Circles, rectangles and triangles take turns; radii are in shares of the longer side.
    """
    height, width = size
    least = SMALLEST[0] * (SMALLEST[1] / SMALLEST[0]) ** runtime.uniform(n, 1)
    radius = radii(least, LEAVES, runtime)
    stretch, angle, *place = runtime.uniform(4, n, LEAVES)
    stretch, angle = torch.exp((stretch - 0.5) * math.log(STRETCH)), angle * (2 * math.pi)
    side, (down, across) = max(size), (each[..., None] for each in place)
    y = (torch.arange(height, device=runtime.device) + 0.5) / side - down * (height / side)  # [n, LEAVES, H], from centres
    x = (torch.arange(width, device=runtime.device) + 0.5) / side - across * (width / side)
    cosine, sine = angle.cos()[..., None], angle.sin()[..., None]
    long, wide = (radius * stretch)[..., None], (radius / stretch)[..., None]
    # A leaf's own coordinates are sums of a part for each row and a part for each column.
    parts = [(y * sine / long, x * cosine / long), (y * cosine / wide, -x * sine / wide)]
    pieces = [[part.split(max(1, TOGETHER // (height * width))) for part in pair] for pair in parts]
    return torch.cat([_painted((uy, ux), (vy, vx)) for uy, ux, vy, vx in zip(*pieces[0], *pieces[1], strict=True)])


def radii(least: Tensor, count: int, runtime: Runtime) -> Tensor:
    """Radii [n, count] with density r^-3 from each image's `least` [n, 1] to 1."""
    return (least**-2 + runtime.uniform(len(least), count) * (1 - least**-2)).rsqrt()


def _painted(u: tuple[Tensor, Tensor], v: tuple[Tensor, Tensor]) -> Tensor:
    """The front leaf's number [n, H, W], from the coordinates' row parts [n, LEAVES, H] and column parts [n, LEAVES, W]."""
    front = torch.zeros(len(u[0]), u[0].shape[2], u[1].shape[2], dtype=torch.int64, device=u[0].device)
    for leaf in range(LEAVES):
        along, across = (rows[:, leaf, :, None] + columns[:, leaf, None] for rows, columns in (u, v))
        front.masked_fill_(SHAPES[leaf % len(SHAPES)](along, across) < 1, leaf + 1)
    return front


def _circle(u: Tensor, v: Tensor) -> Tensor:
    return u.square_().addcmul_(v, v)


def _rectangle(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs_(), v.abs_(), out=u)


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs_().mul_(math.sqrt(3)).add_(v), v.mul_(-2), out=u)


SHAPES = (_circle, _rectangle, _triangle)  # below 1 inside, of a leaf's own coordinates, which they may overwrite
