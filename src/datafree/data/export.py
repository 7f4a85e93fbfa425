"""Transfer sets as image folders, WebDataset shards and `.npz` files: images with the teacher's soft labels."""

import filecmp
import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datafree.core.files import is_temporary, path_or_temporary, replace_atomically, write_text
from datafree.data.sets import TransferSet, as_uint8

TAR_IMAGES = 10_000  # images in one WebDataset shard
UNFINISHED = ".unfinished"  # file in a folder that is being written: which set goes there, in which format


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

    arrays = {"images": images, "labels": soft.argmax(1).numpy(), "soft_labels": soft.numpy()}
    _savez(out, **arrays)


def to_imagefolder(found: TransferSet, out: Path) -> None:
    """Write a folder with one folder of PNG files a class, by the argmax of the soft labels, and `soft_labels.npz`.

    The latter holds `names` [N] of the files and `soft_labels` [N, classes]. Raises `ValueError` for a folder with other files.
    """
    soft = soft_labels(found)
    digits = len(str(soft.shape[1] - 1))
    names: list[str] = []

    def files() -> Iterator[tuple[str, Callable[[Path], object]]]:
        for i, (image, row) in enumerate(_pairs(found)):
            names.append(f"{int(row.argmax()):0{digits}}/{i:08}.png")
            yield names[-1], partial(Path.write_bytes, data=_png(image))
        yield "soft_labels.npz", lambda path: _savez(path, names=np.array(names), soft_labels=soft.numpy())

    _fill(out, f"imagefolder {_digest(found)}", files())


def to_webdataset(found: TransferSet, out: Path) -> None:
    """Write a folder of WebDataset shards `set-000000.tar`, by hand: the format is a plain tar, and its package is not needed.

    Each image is KEY.png, with its soft label [classes], float32, as KEY.npy and the argmax of that as KEY.cls. Raises
    `ValueError` for a folder with other files.
    """
    pairs = enumerate(_pairs(found))

    def shard(path: Path) -> None:
        with tarfile.open(path, "x") as tar:
            for i, (image, row) in islice(pairs, TAR_IMAGES):
                for suffix, content in (("png", _png(image)), ("cls", str(int(row.argmax())).encode()), ("npy", _npy(row))):
                    member = tarfile.TarInfo(f"{i:08}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))

    def write(path: Path) -> None:
        replace_atomically(path, shard)

    shards = range(-(-len(found) // TAR_IMAGES))
    _fill(out, f"webdataset {_digest(found)}", ((f"set-{i:06}.tar", write) for i in shards))


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


def _fill(out: Path, what: str, files: Iterable[tuple[str, Callable[[Path], object]]]) -> None:
    """Write `files`, each a name and a function that writes it, to the folder `out`; `what` names set and format.

    A folder in which a killed export of `what` has left its part is written again. One that holds exactly these files is left
    as it is. Raises `ValueError` for any other that is not empty, and for links in it, through which it would write elsewhere.
    """
    there = [path for path in out.iterdir() if not is_temporary(path)] if out.is_dir() else []
    marker = out / UNFINISHED
    begun = marker.is_file() and marker.read_text(encoding="utf-8") == what
    if (out.exists() and not out.is_dir()) or (there and not begun and not _holds(out, files)):
        raise ValueError(f"{out} is not an empty folder; name a new one.")
    if there and not begun:
        return
    write_text(marker, what, parents=True)
    for name, write in files:
        (out / name).parent.mkdir(exist_ok=True)
        if (out / name).is_symlink() or (out / name).parent.resolve() != (out.resolve() / name).parent:
            raise ValueError(f"{out / name} is a link to somewhere else; remove it, or name a new folder.")
        write(out / name)
    marker.unlink()


def _holds(out: Path, files: Iterable[tuple[str, Callable[[Path], object]]]) -> bool:
    """Whether the folder `out` holds exactly `files`; stops at the first that is missing or another."""
    names = set()
    with path_or_temporary(None, "file") as other:
        for name, write in files:
            names.add(name)
            if not (out / name).is_file():
                return False
            write(other)
            if not filecmp.cmp(out / name, other, shallow=False):
                return False
    return names == {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def _digest(found: TransferSet) -> str:
    """SHA-256 of a set's card and number of images, as hexadecimal digits."""
    return hashlib.sha256(f"{len(found)} {found.card.model_dump_json()}".encode()).hexdigest()


def _savez(path: Path, **arrays: np.ndarray) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("xb") as file:  # given a path, numpy would add a suffix
            np.savez(file, **arrays)  # type: ignore[arg-type]

    replace_atomically(path, write, parents=True)


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def _npy(row: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, row)
    return buffer.getvalue()
