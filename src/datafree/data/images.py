"""Images and masks from files, as 8-bit pixels [N, C, H, W], and their resizing."""

import contextlib
import math
import os
import warnings
import zipfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from datafree.core.runtime import available_bytes
from datafree.core.settings import first_line
from datafree.core.terminal import silent

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF")  # what a file of these names may hold
MOST_PIXELS = 2**26  # of one image file: 8192x8192
FLOATS = 2**24  # numbers that are converted together, 64 MB of them
SMALL = 2**28  # bytes that the arrays of a file may together unpack to, at any multiple of their size
MOST_PACKED = 200  # more than that they unpack to at most so many times their size
NOTES = {"void": 2**10, "classes": 2**20, "colours": 2**20}  # arrays that only describe others, with the most bytes of each


def fit(pixels: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Pixels [N, C, H, W], uint8, at a network's `shape` (C, H, W): resized (bilinear, antialiased), grey to colour or back.

    Raises `ValueError` for other changes of the channels.
    """
    channels, *size = shape
    if pixels.shape[1] == 1 and channels > 1:
        pixels = pixels.expand(-1, channels, -1, -1)
    elif pixels.shape[1] == 3 and channels == 1:
        pixels = torch.cat([_grey(part) for part in pixels.split(_together(pixels[0].numel()))])
    elif pixels.shape[1] != channels:
        raise ValueError(f"The images have {pixels.shape[1]} channels and the network takes {channels}; convert them first.")
    if list(pixels.shape[2:]) == size:
        return pixels.contiguous()
    rows = pixels.flatten(0, 1)[:, None]  # each channel for itself, so that a large image takes little memory
    parts = rows.split(_together(max(rows[0].numel(), size[0] * size[1])))
    resized = [
        F.interpolate(part.float(), size=size, mode="bilinear", antialias=True).round_().clamp_(0, 255).to(torch.uint8)
        for part in parts
    ]
    return torch.cat(resized).view(len(pixels), channels, *size)


def _together(numbers: int) -> int:
    """How many things of so many numbers are converted at once."""
    return max(1, FLOATS // numbers)


def _grey(pixels: Tensor) -> Tensor:
    """Colour pixels [N, 3, H, W], uint8, as grey ones [N, 1, H, W], by the luma of ITU-R BT.601."""
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    parts = pixels.split(_together(3 * pixels.shape[3]), dim=2)
    return torch.cat([(part.float() * weights).sum(1, keepdim=True).round_().to(torch.uint8) for part in parts], dim=2)


def fit_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks [N, H, W], uint8, resized to `size` (H, W); each pixel takes the label of the nearest one."""
    if tuple(masks.shape[1:]) == size:
        return masks
    return F.interpolate(masks[:, None], size=size, mode="nearest-exact")[:, 0]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image file, whose pixels are then read inside. Raises `ValueError` for a file that is not a readable image.

    Decoders meet foreign files here, and any of their failures means that the file cannot be read. Only those of `FORMATS` are
    used, since some others of Pillow run programs; a pipe is not opened, since it may never end.
    """
    try:
        if not path.is_file():
            raise OSError("it is no regular file" if path.exists() else "it does not exist")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged tags, and of a size that is checked here
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise OSError(f"{image.width}x{image.height} pixels are more than {MOST_PIXELS:,}")
                with silent() if image.format == "TIFF" else contextlib.nullcontext():
                    yield image
    except Exception as error:
        raise ValueError(f"{path} is not an image that can be read ({first_line(error)}); remove or replace it.") from error


def read_mask(path: Path) -> Tensor:
    """The labels of a mask file, uint8 [H, W]: its grey values or palette indices. Raises `ValueError` for other files."""
    with _opened(path) as image:
        mode, mask = image.mode, np.array(image)
    if mode not in ("L", "P", "1"):
        raise ValueError(
            f"{path} is a {mode} image, but a mask has one number a pixel, of 8 bits; save it as a grey or palette image."
        )
    return torch.from_numpy(mask.astype(np.uint8))


def _read_pixels(path: Path) -> Tensor:
    """The pixels of an image file, uint8 [C, H, W]: grey ones of 1 to 16 bits as one channel, all others as three."""
    with _opened(path) as image:
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
            wide = np.asarray(image).astype(np.int32)  # 0..65535, of which Pillow would cut off all above 255
            return torch.from_numpy(((wide.clip(0, 65535) + 128) // 257).astype(np.uint8))[None]
        if image.mode in ("I", "F"):
            raise OSError(f"its pixels are {image.mode}, of a range that is not known, where 8 or 16 bits are expected")
        wanted = "L" if image.mode in ("1", "L") else "RGB"
        pixels = torch.from_numpy(np.array(image if image.mode == wanted else image.convert(wanted)))
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)


def read_npz(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Those arrays of an `.npz` file that have one of `names`; others are not read.

    Raises `ValueError` for a file of another kind, for entries that are no arrays or hold Python objects, and for a file that
    claims to unpack to far more than such data do.
    """
    with _opened_npz(path, names) as (packed, wanted):
        return {name: _read_array(packed, entry) for name, entry in wanted.items()}


def check_npz(path: Path, names: Collection[str]) -> None:
    """Raise `ValueError` as `read_npz` does for a file of another kind, or that unpacks to too much; reads no array."""
    with _opened_npz(path, names):
        pass


@contextlib.contextmanager
def _opened_npz(path: Path, names: Collection[str]) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """An `.npz` file, and its entries for arrays of one of `names`, whose sizes have been checked."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist or is no file; name an existing .npz.")
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as packed:
            warnings.simplefilter("ignore")
            entries = {entry.filename: entry for entry in packed.infolist()}
            wanted = {name: entries[f"{name}.npy"] for name in names if f"{name}.npy" in entries}
            for name, most in NOTES.items():
                if name in wanted and wanted[name].file_size > most:
                    raise OSError(f"`{name}` has {wanted[name].file_size:,} bytes, and at most {most:,} are read")
            whole = sum(entry.file_size for entry in wanted.values())
            size = min(sum(entry.compress_size for entry in wanted.values()), path.stat().st_size)
            if whole > max(SMALL, MOST_PACKED * size):
                raise OSError(
                    f"{', '.join(wanted)} would unpack to {whole / 2**20:,.0f} MiB, over {MOST_PACKED} times their size"
                )
            yield packed, wanted
    except Exception as error:  # a foreign archive makes the readers of zip files and arrays fail in many ways
        raise ValueError(
            f"{path} is not a plain .npz of arrays ({first_line(error)}); "
            "write one with numpy.savez(path, images=..., labels=...)."
        ) from error


def _read_array(packed: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """One array of an archive. Raises `ValueError` before any memory is taken for an array that is larger than its entry."""
    with packed.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read_header(file)
        if math.prod(shape) * max(1, kind.itemsize) > entry.file_size:
            raise ValueError(f"{entry.filename} holds less than its shape {list(shape)} says")
    with packed.open(entry) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def npz_pixels(arrays: dict[str, np.ndarray], path: Path) -> Tensor:
    """The `images` of an `.npz`, uint8 [N, H, W] or [N, H, W, C], as [N, C, H, W]. Raises `ValueError` for others."""
    images = arrays.get("images")
    if images is None or images.dtype != np.uint8 or images.ndim not in (3, 4) or images.size == 0:
        seen = "none" if images is None else f"{images.dtype} {list(images.shape)}"
        raise ValueError(
            f"{path} needs an array `images`, uint8 [N, H, W] or [N, H, W, C]; seen: {seen}. "
            "Write it with numpy.savez(path, images=...)."
        )
    pixels = torch.from_numpy(images)
    return pixels[:, None] if images.ndim == 3 else pixels.permute(0, 3, 1, 2)


def list_images(folder: Path) -> list[Path]:
    """Every image file below `folder`, sorted by path; links to folders are not followed. Raises `ValueError` for none."""
    files, folders = [], [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif Path(entry.name).suffix.lower() in SUFFIXES:
                    files.append(Path(entry.path))
    if not files:
        raise ValueError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}); name a folder that does.")
    return sorted(files)


def read_files(files: Sequence[Path], shape: tuple[int, int, int] | None = None) -> Tensor:
    """Image files as one uint8 tensor [N, C, H, W], resized to `shape` (C, H, W), or to the first image's shape.

    Raises `ValueError` for a file that is not a readable image, and if the free memory cannot hold all.
    """
    first = _read_pixels(files[0])
    shape = shape or (first.shape[0], first.shape[1], first.shape[2])
    needed, there = len(files) * math.prod(shape), available_bytes(torch.device("cpu"))
    if needed > there:
        raise ValueError(
            f"{len(files):,} images of {'x'.join(map(str, shape))} take {needed / 2**30:.1f} GiB, and {there / 2**30:.1f} are "
            "free; resize them, the first one at least, or name fewer."
        )
    pixels = torch.empty(len(files), *shape, dtype=torch.uint8)
    for i, path in enumerate(files):
        pixels[i] = fit((_read_pixels(path) if i else first)[None], shape)[0]
    return pixels
