"""Augmentation of batches on their device, with one random draw for each image."""

import math

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt
from torch import Tensor

from datafree.core.settings import Settings


class Augmentation(Settings):
    """Random changes of an image, drawn anew each time the student sees it. A value of 0 leaves that change out."""

    crop: NonNegativeInt = 0
    """Largest random shift of each image, in whole pixels; uncovered pixels become 0."""
    shift: float = Field(0.0, ge=0, lt=1)
    """Largest random shift of each image, as a share of its side."""
    scale: float = Field(0.0, ge=0, lt=1)
    """Largest random change of size, as a share: 0.1 is from 0.9 to 1.1 times."""
    degrees: float = Field(0.0, ge=0, le=180)
    """Largest random rotation, in degrees."""
    flip: bool = False
    """Mirror half of the images left to right; for objects, not for digits."""
    jitter: float = Field(0.0, ge=0, lt=1)
    """Largest random change of contrast and of brightness, as a share of the image's contrast."""

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Augment each image of a batch by its own random draw.

        Args:
            x: images [B, C, H, W], network units.
            generator: source of the random draws, on the device of `x`.

        Returns:
            The changed images [B, C, H, W].
        """
        if self.crop:
            x = random_crop(x, self.crop, generator)
        if self.shift or self.scale or self.degrees:
            x = random_affine(x, self.shift, self.scale, self.degrees, generator)
        if self.flip:
            x = random_flip(x, generator)
        return random_jitter(x, self.jitter, generator) if self.jitter else x


def random_crop(x: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Shift each image [B, C, H, W] by up to `pad` pixels in each direction; uncovered pixels become 0."""
    batch, _, height, width = x.shape
    padded = F.pad(x, (pad, pad, pad, pad))
    shifts = torch.randint(0, 2 * pad + 1, (2, batch, 1), generator=generator, device=x.device)
    rows = shifts[0] + torch.arange(height, device=x.device)
    columns = shifts[1] + torch.arange(width, device=x.device)
    images = torch.arange(batch, device=x.device)[:, None, None]
    return padded[images, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def random_roll(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Shift all images [B, C, H, W] by one draw of up to `most` pixels in each direction, with wrap-around at the edges."""
    if not most:
        return x
    shifts = torch.randint(-most, most + 1, (2,), generator=generator, device=x.device)
    for dim in (2, 3):
        x = x.index_select(dim, (torch.arange(x.shape[dim], device=x.device) - shifts[dim - 2]) % x.shape[dim])
    return x


def random_affine(x: Tensor, shift: float, scale: float, degrees: float, generator: torch.Generator) -> Tensor:
    """Shift, scale and rotate each image [B, C, H, W] at random, bilinearly; uncovered pixels become 0.

    The largest changes are `shift` in each direction, as a share of the side, `scale`, as a share of the size (0.1: from 0.9
    to 1.1 times), and `degrees` of rotation.
    """
    batch, _, height, width = x.shape
    draws = torch.rand(4, batch, generator=generator, device=x.device) * 2 - 1
    angle, size = draws[0] * math.radians(degrees), 1 + draws[1] * scale
    cosine, sine, ratio = angle.cos() / size, angle.sin() / size, height / width
    # Rows of the inverse map in grid_sample's units, where a side has length 2; with `ratio` a rotation keeps angles even if
    # the image is not square.
    rows = [cosine, -sine * ratio, 2 * shift * draws[2], sine / ratio, cosine, 2 * shift * draws[3]]
    return _warp(x, rows, padding="zeros")


def random_zoom(x: Tensor, smallest: float, generator: torch.Generator) -> Tensor:
    """A random part of each image [B, C, H, W], mirrored half of the time, enlarged to the full size, bilinearly.

    The part has `smallest` to 1 times the image's area and sides in a ratio from 3:4 to 4:3.
    """
    batch = len(x)
    area, ratio, across, down, mirrored = torch.rand(5, batch, generator=generator, device=x.device)
    area, stretch = smallest + (1 - smallest) * area, torch.exp((2 * ratio - 1) * math.log(4 / 3) / 2)
    width, height = (area.sqrt() * stretch).clamp_max(1), (area.sqrt() / stretch).clamp_max(1)
    zero, sign = torch.zeros_like(area), (mirrored < 0.5).to(x.dtype) * 2 - 1
    rows = [sign * width, zero, (2 * across - 1) * (1 - width), zero, height, (2 * down - 1) * (1 - height)]
    return _warp(x, rows, padding="border")


def random_part(x: Tensor, masks: Tensor, zoom: float, flip: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random part of each image [B, C, H, W] and of its mask [B, H, W], enlarged by 1 to 1 + `zoom` to the full size.

    Images are resized bilinearly, masks to the nearest label; with `flip` half of them are mirrored left to right.
    """
    size, across, down, mirrored = torch.rand(4, len(x), generator=generator, device=x.device)
    share, zero = 1 / (1 + zoom * size), torch.zeros_like(size)
    sign = torch.where(mirrored < 0.5, -1.0, 1.0) if flip else torch.ones_like(size)
    rows = [sign * share, zero, (2 * across - 1) * (1 - share), zero, share, (2 * down - 1) * (1 - share)]
    labels = _warp(masks[:, None].float(), rows, padding="border", mode="nearest")
    return _warp(x, rows, padding="border"), labels[:, 0].to(masks.dtype)


def _warp(x: Tensor, rows: list[Tensor], padding: str, mode: str = "bilinear") -> Tensor:
    """x [B, C, H, W] through each image's affine map, given as the six entries [B] of its inverse in grid_sample's units."""
    grid = F.affine_grid(torch.stack(rows, dim=1).view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=False)


def random_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image [B, C, H, W] left to right with probability one half."""
    mirrored = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
    return torch.where(mirrored, x.flip(3), x)


def random_jitter(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Change contrast and brightness of each image [B, C, H, W] at random, by up to `strength` of its standard deviation."""
    draws = (torch.rand(2, len(x), 1, 1, 1, generator=generator, device=x.device) * 2 - 1) * strength
    deviation, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (1 + draws[0]) + mean + draws[1] * deviation


def random_mix(x: Tensor, mixup: float, cutmix: float, generator: torch.Generator) -> Tensor:
    """Mix images [B, C, H, W] in pairs of a random order: a share `mixup` is blended, a share `cutmix` gets a rectangle.

    The proportion of the other image, or the rectangle's area, is uniform in [0, 1); its centre is uniform too, and what lies
    outside of the image is cut off (arXiv 1905.04899, section 3.1). The other images stay as they are.
    """
    batch, _, height, width = x.shape
    order = torch.randperm(batch, generator=generator, device=x.device)
    kind, share, across, down = torch.rand(4, batch, 1, 1, 1, generator=generator, device=x.device)
    own = torch.where(kind < mixup, 1 - share, 1.0)
    rows = torch.arange(height, device=x.device).view(1, 1, -1, 1) + 0.5
    columns = torch.arange(width, device=x.device).view(1, 1, 1, -1) + 0.5
    half = share.sqrt() / 2
    inside = ((rows / height - down).abs() < half) & ((columns / width - across).abs() < half)
    own = torch.where(inside & (kind >= mixup) & (kind < mixup + cutmix), 0.0, own)
    return x * own + x[order] * (1 - own)
