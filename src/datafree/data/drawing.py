"""Pictures for people: grids of images, coloured masks, sources beside their variations."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from datafree.core.files import replace_atomically
from datafree.data.images import fit


def palette(classes: int) -> Tensor:
    """Distinct colours [classes, 3], uint8: the bits of each class's number, spread over the three channels."""
    numbers = torch.arange(1, classes + 1)
    channels = [sum(((numbers >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
    return torch.stack([torch.as_tensor(channel) for channel in channels], dim=1).to(torch.uint8)


def painted(masks: Tensor, colours: Tensor, void: int | None = None) -> Tensor:
    """Masks [N, H, W] as pictures, uint8 [N, 3, H, W], with `colours` [classes, 3]; void pixels are black."""
    numbers = masks.long()
    shown = colours[numbers.clamp(max=len(colours) - 1)]
    shown = torch.where((numbers != void)[..., None], shown, 0) if void is not None else shown
    return shown.permute(0, 3, 1, 2)


def save_grid(pixels: Tensor, path: Path, columns: int | None = None, smallest: int = 48) -> None:
    """Write uint8 images [N, C, H, W] as one PNG grid; each pixel is repeated until a tile is `smallest` pixels wide."""
    columns = columns or math.ceil(math.sqrt(len(pixels)))
    scale = max(1, math.ceil(smallest / pixels.shape[-1]))
    array = pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3).permute(0, 2, 3, 1).cpu().numpy()
    array = array[..., :3] if array.shape[3] >= 3 else array[..., :1].repeat(3, axis=3)
    height, width, gap = array.shape[1], array.shape[2], 2
    rows = math.ceil(len(array) / columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, dtype=np.uint8)
    for i, tile in enumerate(array):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    save_picture(torch.from_numpy(sheet).permute(2, 0, 1), path)


def save_picture(pixels: Tensor, path: Path) -> None:
    """Write one uint8 picture [3, H, W] as PNG, atomically; makes the folder of `path`, but not the one around it."""

    def write(temporary: Path) -> None:
        temporary.parent.mkdir(exist_ok=True)
        with temporary.open("xb") as file:
            Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy()).save(file, "png")

    replace_atomically(path, write)


def variation_sheet(sources: Tensor, variations: Tensor, similarity: Tensor, kept: Tensor, smallest: int = 64) -> Tensor:
    """A picture [3, H, W] of sources [N, C, h, w], each with its variations [N, K, C, h, w] to the right, all uint8.

    A variation that `kept` [N, K] marks has a green frame; its `similarity` [N, K] is written below it. `smallest` is the
    least width of a tile, in pixels.
    """
    count, k = kept.shape
    scale = max(1, math.ceil(smallest / sources.shape[-1]))
    height, width, gap, line = sources.shape[-2] * scale, sources.shape[-1] * scale, 6, 14
    rows, columns = height + line + gap, width + gap
    sheet = Image.new("RGB", (columns * (k + 1) + gap, rows * count + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for i in range(count):
        for j, pixels in enumerate((sources[i], *variations[i])):
            left, top = gap + j * columns, gap + i * rows
            tile = fit(pixels[None], (3, *pixels.shape[1:]))[0].permute(1, 2, 0).cpu().numpy()
            sheet.paste(Image.fromarray(tile).resize((width, height), Image.Resampling.NEAREST), (left, top))
            if j and kept[i, j - 1]:
                draw.rectangle((left - 3, top - 3, left + width + 2, top + height + 2), outline="#00a040", width=3)
            text = f"{similarity[i, j - 1]:.2f}" if j else "source"
            draw.text((left, top + height + 2), text, fill="black")
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1)
