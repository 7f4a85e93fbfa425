"""Images and masks from files, as 8-bit pixels [N, C, H, W], and their resizing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from datafree.core.runtime import available_bytes
from datafree.core.settings import first_line

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


def fit(pixels: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Pixels [N, C, H, W], uint8, at a network's `shape` (C, H, W): resized (bilinear, antialiased), grey to colour or back.

    Raises `ValueError` for other changes of the channels.
    """
    channels, *size = shape
    if pixels.shape[1] == 1 and channels > 1:
        pixels = pixels.expand(-1, channels, -1, -1)
    elif pixels.shape[1] == 3 and channels == 1:
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R BT.601 luma
        pixels = (pixels.float() * weights).sum(1, keepdim=True).round_().to(torch.uint8)
    elif pixels.shape[1] != channels:
        raise ValueError(f"The images have {pixels.shape[1]} channels and the network takes {channels}; convert them first.")
    if list(pixels.shape[2:]) == size:
        return pixels.contiguous()
    resized = [
        F.interpolate(part.float(), size=size, mode="bilinear", antialias=True).round_().clamp_(0, 255).to(torch.uint8)
        for part in pixels.split(4096)
    ]
    return torch.cat(resized)


def fit_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks [N, H, W], uint8, resized to `size` (H, W); each pixel takes the label of the nearest one."""
    if tuple(masks.shape[1:]) == size:
        return masks
    return F.interpolate(masks[:, None], size=size, mode="nearest-exact")[:, 0]


def read_mask(path: Path) -> Tensor:
    """The labels of a mask file, uint8 [H, W]: its grey values or palette indices. Raises `ValueError` for other files."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P", "1"):
                raise ValueError(
                    f"{path} is a {image.mode} image, but a mask has one number a pixel; save it as a grey or palette image."
                )
            return torch.from_numpy(np.array(image, dtype=np.uint8))
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} is not an image that can be read ({error}); remove or replace it.") from error


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file. Raises `ValueError` for a file of another kind, or with Python objects."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in _fitting_members(file, path)}
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; name an existing .npz.") from None
    except MemoryError:
        raise
    except Exception as error:  # bytes that are no archive make numpy's reader and zlib stumble in any way
        raise ValueError(
            f"{path} is not a plain .npz of arrays ({first_line(error)}); write one with "
            "numpy.savez(path, images=..., labels=...)."
        ) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(
                f"{path} has a member {name!r} that is no array; write the file with numpy.savez(path, images=..., labels=...)."
            )
    return arrays


def _fitting_members(file: Any, path: Path) -> list[str]:
    """The names of the arrays. Raises `MemoryError` if they are larger than the free memory, which some bytes can unpack to."""
    size, free = sum(member.file_size for member in file.zip.infolist()), available_bytes(torch.device("cpu"))
    if size > free:
        raise MemoryError(
            f"{path} unpacks to {size / 2**30:.1f} GiB and {free / 2**30:.1f} GiB of memory are free; split the file."
        )
    return list(file.files)


def npz_pixels(arrays: dict[str, np.ndarray], path: Path) -> Tensor:
    """The `images` of an `.npz`, uint8 [N, H, W] or [N, H, W, C], as [N, C, H, W]. Raises `ValueError` for others."""
    images = arrays.get("images")
    if images is None or images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) == 0:
        seen = "none" if images is None else f"{images.dtype} {list(images.shape)}"
        raise ValueError(
            f"{path} needs an array `images`, uint8 [N, H, W] or [N, H, W, C]; seen: {seen}. "
            "Write it with numpy.savez(path, images=...)."
        )
    pixels = torch.from_numpy(images)
    return pixels[:, None] if images.ndim == 3 else pixels.permute(0, 3, 1, 2)


def list_images(folder: Path) -> list[Path]:
    """Every image file below `folder`, sorted by path. Raises `ValueError` if there is none."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}); name a folder that does.")
    return files


def read_files(files: Sequence[Path], shape: tuple[int, int, int] | None = None) -> Tensor:
    """Image files as one uint8 tensor [N, C, H, W], resized to `shape` (C, H, W), or to the first image's shape.

    Raises `ValueError` for a file that is not a readable image.
    """
    rows = []
    for path in files:
        try:
            with Image.open(path) as image:
                pixels = torch.from_numpy(np.array(image.convert("L" if image.mode in ("1", "L") else "RGB")))
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"{path} is not an image that can be read ({error}); remove or replace it.") from error
        row = pixels[None, None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)[None]
        shape = shape or (row.shape[1], row.shape[2], row.shape[3])
        rows.append(fit(row, shape))
    return torch.cat(rows)
