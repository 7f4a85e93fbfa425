"""Labelled data, for evaluating networks and training teachers; methods may not import it."""

import hashlib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from datafree.core.settings import first_line
from datafree.core.spec import Shape
from datafree.data.drawing import palette
from datafree.data.images import fit, fit_masks, list_images, npz_pixels, read_files, read_mask, read_npz

VOID = 255  # label of void pixels in mask files
MOST_CLASSES = 1_000_000  # as in a network's card
ARRAYS = ("images", "labels", "masks", "void", "classes", "colours")  # of an .npz


@dataclass(frozen=True)
class Labelled:
    """Images with labels: `pixels` [N, C, H, W], uint8; `labels` [N], int64, one an image, or [N, H, W], uint8, one a pixel.

    Pixels with the label `void` are left out of every loss and score. `names` and `colours` (uint8 [classes, 3]) describe the
    classes, if the data set gives them.
    """

    pixels: Tensor
    labels: Tensor
    classes: int
    source: str
    void: int | None = None
    names: tuple[str, ...] = ()
    colours: Tensor | None = None

    def refuse_other_task(self, task: str) -> None:
        """Raise `ValueError` unless the labels are those of `task`: one an image to classify, one a pixel to segment."""
        own, other = ("image", "pixel") if self.labels.dim() == 1 else ("pixel", "image")
        if task != ("classification" if own == "image" else "segmentation"):
            raise ValueError(
                f"{self.source} has a label for each {own} and the network, of {task}, needs one for each {other}; "
                "give other data or another network."
            )

    def fingerprint(self) -> str:
        """SHA-256 of the pixels and labels, as hexadecimal digits."""
        return hashlib.sha256(self.pixels.numpy().tobytes() + self.labels.numpy().tobytes()).hexdigest()

    def fitted(self, shape: Shape, classes: int) -> "Labelled":
        """The images, and masks, at a network's (C, H, W). Raises `ValueError` for a label outside 0..`classes` - 1."""
        valid = self.labels if self.void is None else self.labels[self.labels != self.void]
        low, high = (int(valid.min()), int(valid.max())) if valid.numel() else (0, 0)
        if low < 0 or high >= classes:
            raise ValueError(
                f"{self.source} has labels {low}..{high} and the network {classes} classes; "
                "number the classes from 0 as the network does."
            )
        labels = self.labels if self.labels.dim() == 1 else fit_masks(self.labels, shape[1:])
        names, colours = self.names[:classes], self.colours
        if names:  # the network may have more classes than the data name
            names += tuple(str(number) for number in range(len(names), classes))
        if colours is not None:
            colours = torch.cat([colours[:classes], palette(classes)[len(colours) :]])
        fitted = fit(self.pixels, shape)
        return replace(self, pixels=fitted, labels=labels, classes=classes, names=names, colours=colours)


def labelled_for(data: "str | Labelled", shape: Shape, classes: int) -> Labelled:
    """Labelled data at a network's `shape` (C, H, W), read by `load_labelled` if `data` is a name.

    Raises `ValueError` if it cannot be read, or has a label outside 0..`classes` - 1.
    """
    labelled = load_labelled(data, shape) if isinstance(data, str) else data
    return labelled.fitted(shape, classes)


def load_labelled(name: str, shape: Shape | None = None) -> Labelled:
    """Labelled data by its name on the command line.

    That is an `.npz`, a folder with one folder a class, a folder with the folders `images` and `masks`, or
    `torchvision:SET:ROOT[:train|test]`.

    An `.npz` holds `images` uint8 [N, H, W] or [N, H, W, C] and `labels`, integers [N]. For segmentation the labels, also
    called `masks`, are uint8 [N, H, W]; optional arrays are `void` (the label of void pixels), `classes` (names) and
    `colours` (uint8 [classes, 3]). A folder's images are resized to `shape`, (C, H, W), or to the first image's shape. Raises
    `ValueError` if the data cannot be read.
    """
    if name.startswith("torchvision:"):
        return _torchvision(name)
    path = Path(name)
    if path.is_dir():
        return _paired(path, shape) if (path / "masks").is_dir() else _folder(path, shape)
    if not path.is_file():
        raise ValueError(
            f"{name} does not exist or is no file; name an .npz, a folder with one folder a class, or torchvision:SET:ROOT."
        )
    arrays = read_npz(path, ARRAYS)
    pixels, labels = npz_pixels(arrays, path), arrays.get("labels", arrays.get("masks"))
    if labels is not None and labels.ndim == 3:
        return _masked(pixels, labels, arrays, path)
    if labels is None or labels.shape != (len(pixels),) or not np.issubdtype(labels.dtype, np.integer):
        seen = "none" if labels is None else f"{labels.dtype} {list(labels.shape)}"
        raise ValueError(
            f"{path} needs an array `labels`, integers [{len(pixels)}]; seen: {seen}. "
            "Write it with numpy.savez(path, images=..., labels=...)."
        )
    return _labelled(pixels, torch.from_numpy(labels.astype(np.int64)), name)


def _labelled(pixels: Tensor, labels: Tensor, source: str, classes: int = 0) -> Labelled:
    """Data with one label an image. Raises `ValueError` for a label that is no number of a class."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MOST_CLASSES:
        raise ValueError(f"{source} has labels {low}..{high}; number the classes from 0, up to {MOST_CLASSES - 1:,}.")
    return Labelled(pixels, labels, classes or high + 1, source)


def _masked(pixels: Tensor, masks: np.ndarray, arrays: dict[str, np.ndarray], path: Path) -> Labelled:
    """Segmentation data of an `.npz`."""
    if masks.dtype != np.uint8 or masks.shape != (len(pixels), *pixels.shape[2:]):
        wanted = [len(pixels), *pixels.shape[2:]]
        raise ValueError(
            f"{path} needs masks uint8 {wanted}, one label a pixel; seen: {masks.dtype} {list(masks.shape)}. "
            "Write masks of the images' size."
        )
    for name, (fits, form) in _DESCRIPTIONS.items():
        if name in arrays and not fits(arrays[name]):
            seen = f"{arrays[name].dtype} {list(arrays[name].shape)}"
            raise ValueError(f"{path} has an array `{name}` that is {seen}, not {form}; correct it or leave it out.")
    void = int(arrays["void"].item()) if "void" in arrays else None
    colours = torch.from_numpy(arrays["colours"].astype(np.uint8)) if "colours" in arrays else None
    names = [str(name) for name in arrays.get("classes", np.empty(0))]
    return _segmented(pixels, torch.from_numpy(masks), str(path), void, names, colours)


def _is_byte(values: np.ndarray) -> bool:
    """Whether all `values` are whole numbers from 0 to 255."""
    return np.issubdtype(values.dtype, np.integer) and bool(((values >= 0) & (values <= 255)).all())


# What describes the classes of an `.npz`: whether an array has the right form, and the form in words.
_DESCRIPTIONS: dict[str, tuple[Callable[[np.ndarray], bool], str]] = {
    "void": (lambda values: values.size == 1 and _is_byte(values), "one number from 0 to 255"),
    "classes": (lambda values: values.ndim == 1 and len(values) <= 256 and values.dtype.kind in "US", "at most 256 names"),
    "colours": (lambda values: values.ndim == 2 and values.shape[1] == 3 and _is_byte(values), "uint8 [classes, 3]"),
}


def _segmented(
    pixels: Tensor, masks: Tensor, source: str, void: int | None, names: list[str], colours: Tensor | None = None
) -> Labelled:
    valid = masks[masks != void] if void is not None else masks
    classes = int(valid.max()) + 1 if valid.numel() else 1
    if void is not None and void <= len(names):
        classes = max(classes, len(names) - (void < len(names)))  # if void has a name, it is the last one
    return Labelled(pixels, masks, classes, source, void, tuple(names[:classes]), colours)


def _paired(path: Path, shape: Shape | None) -> Labelled:
    """Segmentation data of a folder: `images/NAME.jpg` with `masks/NAME.png`, whose grey values are classes or `VOID`."""
    _refuse_links(path, "images", "masks")
    files = list_images(path / "images")
    masks = {file.stem: file for file in list_images(path / "masks")}
    if missing := [file.name for file in files if file.stem not in masks]:
        raise ValueError(
            f"{len(missing)} images in {path} have no mask, {missing[0]} first; give each mask the name of its image."
        )
    pixels = read_files(files, shape)
    size = (pixels.shape[2], pixels.shape[3])
    rows = [fit_masks(read_mask(masks[file.stem])[None], size) for file in files]
    return _segmented(pixels, torch.cat(rows), str(path), VOID, [])


def _refuse_links(path: Path, *names: str) -> None:
    """Raise `ValueError` if one of the folders `names` in `path` is a link, as to all files of the machine."""
    if links := [name for name in names if (path / name).is_symlink()]:
        raise ValueError(
            f"{path / links[0]} is a link, and links to folders are not followed; put the folder itself in its place."
        )


def _folder(path: Path, shape: Shape | None) -> Labelled:
    names = sorted(child.name for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    _refuse_links(path, *names)
    if len(names) < 2:
        raise ValueError(f"{path} needs one folder a class, at least two; seen: {len(names)}. Name a folder of class folders.")
    files = [list_images(path / name) for name in names]
    labels = torch.cat([torch.full((len(group),), i) for i, group in enumerate(files)])
    return _labelled(read_files([file for group in files for file in group], shape), labels, str(path), len(names))


_REFUSED = {  # sets of torchvision
    "LSUN": "its index is a pickle, which can run code; convert the set to a folder with one folder a class",
    "LSUNClass": "its index is a pickle, which can run code; convert the set to a folder with one folder a class",
    "ImageFolder": "a folder with one folder a class is read by its own name; leave out `torchvision:ImageFolder:`",
    "DatasetFolder": "a folder with one folder a class is read by its own name; leave out `torchvision:DatasetFolder:`",
}


def _torchvision(name: str) -> Labelled:
    parts = name.split(":")
    if len(parts) not in (3, 4):
        raise ValueError(f"{name!r} is not of the form torchvision:SET:ROOT[:train|test]; write torchvision:MNIST:data:test.")
    split = parts[3] if len(parts) == 4 else "test"
    try:
        sets = importlib.import_module("torchvision.datasets")
    except ImportError as error:
        raise ValueError("torchvision is not installed; pip install 'datafree[vision]'.") from error
    if parts[1] in _REFUSED:
        raise ValueError(f"torchvision:{parts[1]} is not read, since {_REFUSED[parts[1]]}.")
    factory: Any = getattr(sets, parts[1], None)
    if not (isinstance(factory, type) and issubclass(factory, sets.VisionDataset)):
        raise ValueError(
            f"torchvision has no set named {parts[1]!r}; pass a name from torchvision.datasets, for example MNIST."
        )
    takes = inspect.signature(factory).parameters
    which: dict[str, Any] = {"train": split == "train"} if "train" in takes else {"split": split} if "split" in takes else {}
    if "download" in takes:
        which["download"] = False
    rows, labels = [], []
    try:
        for image, label in cast(Any, factory)(parts[2], **which):
            array = torch.from_numpy(np.array(image))
            rows.append(array[None] if array.dim() == 2 else array.permute(2, 0, 1))
            labels.append(int(label))
    except Exception as error:  # a foreign reader of foreign files
        raise ValueError(f"{parts[1]} is not in {parts[2]} ({first_line(error)}); download it there first.") from error
    if not rows:
        raise ValueError(f"{parts[1]} in {parts[2]} holds no images; name another split or set.")
    if len({row.shape for row in rows}) > 1:
        shape = (rows[0].shape[0], rows[0].shape[1], rows[0].shape[2])
        rows = [fit(row[None], shape)[0] for row in rows]
    return _labelled(torch.stack(rows), torch.tensor(labels), name)
