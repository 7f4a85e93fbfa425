"""Labelled data, for evaluating students and teaching teachers. Methods may not import this."""

import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datafree.images import fit, list_images, npz_pixels, read_files, read_npz

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Labelled:
    """Images with labels: pixels [N, C, H, W], uint8; labels [N], int64."""

    pixels: Tensor
    labels: Tensor
    classes: int
    source: str

    def fitted(self, shape: Shape, classes: int) -> "Labelled":
        """The same images at a network's (C, H, W). Raises `ValueError` for a label that the network has no class for."""
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= classes:
            raise ValueError(
                f"{self.source} has labels {low}..{high} and the network {classes} classes; "
                "number the classes from 0 as the network does."
            )
        return Labelled(fit(self.pixels, shape), self.labels, classes, self.source)


def load_labelled(name: str, shape: Shape | None = None) -> Labelled:
    """DATA of the command line: an `.npz`, a folder with one folder a class, or `torchvision:SET:ROOT[:train|test]`.

    `shape` sizes a folder's images as they are read; without it the first image decides. Raises `ValueError`.
    """
    if name.startswith("torchvision:"):
        return _torchvision(name)
    path = Path(name)
    if path.is_dir():
        return _folder(path, shape)
    if not path.exists():
        raise ValueError(f"{name} is not there; name an .npz, a folder with one folder a class, or torchvision:SET:ROOT.")
    arrays = read_npz(path)
    pixels, labels = npz_pixels(arrays, path), arrays.get("labels")
    if labels is None or labels.shape != (len(pixels),) or not np.issubdtype(labels.dtype, np.integer):
        seen = "none" if labels is None else f"{labels.dtype} {list(labels.shape)}"
        raise ValueError(f"{path} needs an array `labels`, integers [{len(pixels)}]; seen: {seen}.")
    return _labelled(pixels, torch.from_numpy(labels.astype(np.int64)), name)


def _labelled(pixels: Tensor, labels: Tensor, source: str, classes: int = 0) -> Labelled:
    return Labelled(pixels, labels, classes or int(labels.max()) + 1, source)


def _folder(path: Path, shape: Shape | None) -> Labelled:
    names = sorted(child.name for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    if len(names) < 2:
        raise ValueError(f"{path} needs one folder a class, at least two; seen: {len(names)}.")
    files = [list_images(path / name) for name in names]
    labels = torch.cat([torch.full((len(group),), i) for i, group in enumerate(files)])
    return _labelled(read_files([file for group in files for file in group], shape), labels, str(path), len(names))


def _torchvision(name: str) -> Labelled:
    parts = name.split(":")
    if len(parts) not in (3, 4):
        raise ValueError(f"{name!r} is not of the form torchvision:SET:ROOT[:train|test].")
    split = parts[3] if len(parts) == 4 else "test"
    try:
        sets = importlib.import_module("torchvision.datasets")
    except ImportError as error:
        raise ValueError("torchvision is not installed; pip install 'datafree[vision]'.") from error
    factory = getattr(sets, parts[1], None)
    if factory is None:
        raise ValueError(f"torchvision has no set named {parts[1]!r}; names are as in torchvision.datasets, MNIST or CIFAR10.")
    takes = inspect.signature(factory).parameters
    which: dict[str, Any] = {"train": split == "train"} if "train" in takes else {"split": split} if "split" in takes else {}
    try:
        found = factory(parts[2], download=False, **which) if "download" in takes else factory(parts[2], **which)
    except (RuntimeError, FileNotFoundError, ValueError) as error:
        raise ValueError(f"{parts[1]} is not in {parts[2]} ({error}); download it there first.") from error
    rows, labels = [], []
    for image, label in found:
        array = torch.from_numpy(np.array(image))
        rows.append(array[None] if array.dim() == 2 else array.permute(2, 0, 1))
        labels.append(int(label))
    if len({row.shape for row in rows}) > 1:
        shape = (rows[0].shape[0], rows[0].shape[1], rows[0].shape[2])
        rows = [fit(row[None], shape)[0] for row in rows]
    return _labelled(torch.stack(rows), torch.tensor(labels), name)
