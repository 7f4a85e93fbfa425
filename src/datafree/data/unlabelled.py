"""Images for a student from wherever a person has them: a transfer set, an `.npz`, or a folder; labels are ignored."""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from datafree.core.spec import InputSpec
from datafree.data.images import fit, list_images, npz_pixels, read_files, read_npz
from datafree.data.sets import SetCard, TransferSet, read_set


def read_images(path: str | Path, inputs: InputSpec) -> TransferSet:
    """Read a transfer set (by memory map), an `.npz` or a folder of images, resized to `inputs`; labels are ignored.

    Raises `ValueError` if `path` is none of these or cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        pixels = read_files(list_images(path), inputs.shape)
        return TransferSet(SetCard(inputs=inputs, provenance=f"folder {path.name}"), (pixels,))
    if path.suffix == ".npz":
        pixels = fit(npz_pixels(read_npz(path, ("images",)), path), inputs.shape)
        return TransferSet(SetCard(inputs=inputs, provenance=f"file {path.name}"), (pixels,))
    found = read_set(path)
    card = found.card.model_copy(update={"inputs": inputs})
    return dataclasses.replace(found, card=card, pixels=tuple(_fitted(part, inputs.shape) for part in found.pixels))


def _fitted(part: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Pixels of a shard at a network's `shape` (C, H, W). Raises `ValueError` for float16 pixels of another shape."""
    if tuple(part.shape[1:]) == shape:
        return part
    if part.dtype != torch.uint8:
        raise ValueError(
            f"The set's float16 images are {list(part.shape[1:])}, not {list(shape)}, and only uint8 images are resized; "
            "make the set for this teacher."
        )
    return fit(part, shape)
