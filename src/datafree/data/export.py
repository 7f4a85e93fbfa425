"""Transfer sets as image folders, WebDataset shards and `.npz` files: images with the teacher's soft labels."""

import io
import itertools
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datafree.core.files import new_folder, replace_atomically
from datafree.data.sets import TransferSet, as_uint8

TAR_IMAGES = 10_000  # images in one WebDataset shard


def soft_labels(found: TransferSet) -> Tensor:
    """The teacher's probabilities [N, classes], float32, or without logits the targets that the images were made for.

    Raises `ValueError` if the set has neither.
    """
    if found.logits:
        return torch.cat(found.logits).float().softmax(1)
    if found.targets:
        return torch.cat(found.targets).float()
    raise ValueError("The set has neither logits nor targets; make it with --logits, the default.")


def to_npz(found: TransferSet, out: Path) -> None:
    """Write one `.npz`: `images` uint8 [N, H, W] or [N, H, W, C], `soft_labels` [N, classes] and their argmax as `labels`."""
    images = np.stack([image for image, _ in _pairs(found)])
    soft = soft_labels(found)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, images=images, labels=soft.argmax(1).numpy(), soft_labels=soft.numpy())

    replace_atomically(out, write)


def to_imagefolder(found: TransferSet, out: Path) -> None:
    """Write a folder with one folder of PNG files a class, by the argmax of the soft labels, and `soft_labels.npz`.

    The latter holds `names` [N] of the files and `soft_labels` [N, classes]. Raises `ValueError` for a folder that is not
    empty.
    """
    soft = soft_labels(found)
    digits = len(str(soft.shape[1] - 1))
    names = []
    with new_folder(out) as folder:
        for i, (image, row) in enumerate(_pairs(found)):
            name = f"{int(row.argmax()):0{digits}}/{i:08}.png"
            (folder / name).parent.mkdir(exist_ok=True)
            Image.fromarray(image).save(folder / name)
            names.append(name)
        np.savez(folder / "soft_labels.npz", names=np.array(names), soft_labels=soft.numpy())


def to_webdataset(found: TransferSet, out: Path) -> None:
    """Write a folder of WebDataset shards `set-000000.tar`, by hand: the format is a plain tar, and its package is not needed.

    Each image is KEY.png, with its soft label [classes], float32, as KEY.npy and the argmax of that as KEY.cls. Raises
    `ValueError` for a folder that is not empty.
    """
    pairs = enumerate(_pairs(found))
    with new_folder(out) as folder:
        for first in range(0, len(found), TAR_IMAGES):
            with tarfile.open(folder / f"set-{first // TAR_IMAGES:06}.tar", "w") as tar:
                for i, (image, row) in itertools.islice(pairs, TAR_IMAGES):
                    for suffix, content in (("png", _png(image)), ("cls", str(int(row.argmax())).encode()), ("npy", _npy(row))):
                        member = tarfile.TarInfo(f"{i:08}.{suffix}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))


FORMATS: dict[str, Callable[[TransferSet, Path], None]] = {
    "imagefolder": to_imagefolder,
    "webdataset": to_webdataset,
    "npz": to_npz,
}


def _pairs(found: TransferSet) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each image, uint8 [H, W] or [H, W, C], with its soft label [classes], one at a time."""
    soft = soft_labels(found).numpy()
    first = 0
    for part in found.pixels:
        for image, row in zip(part, soft[first : first + len(part)], strict=True):
            array = as_uint8(image).permute(1, 2, 0).numpy()
            yield (array[..., 0] if array.shape[2] == 1 else array), row
        first += len(part)


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def _npy(row: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, row)
    return buffer.getvalue()
