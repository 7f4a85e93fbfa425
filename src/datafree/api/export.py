"""The verb `export_set`: a transfer set in the formats of other training code."""

from pathlib import Path
from typing import Literal

from datafree.data.export import FORMATS
from datafree.data.sets import TransferSet, read_set


def export_set(file: str | Path, to: Literal["imagefolder", "webdataset", "npz"], out: str | Path) -> TransferSet:
    """Write a transfer set for other training code, images in pixels with the teacher's soft labels beside them.

    `file` is the set, its common name where it is in shards. imagefolder: one folder a class and soft_labels.npz; webdataset:
    tar shards; npz: one file. Returns the set that was written. Raises `ValueError` for a file that is no set, a set without
    soft labels, and a folder that is not empty.
    """
    found = read_set(Path(file))
    FORMATS[to](found, Path(out))
    return found
