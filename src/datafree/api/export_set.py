"""The function `export_set`: a transfer set in the formats of other training code."""

from pathlib import Path
from typing import Literal

from datafree.data.export import FORMATS
from datafree.data.sets import TransferSet, read_set


def export_set(file: str | Path, to: Literal["imagefolder", "webdataset", "npz"], out: str | Path) -> TransferSet:
    """Write a transfer set for other training code: 8-bit images with the teacher's soft labels.

    Args:
        file: the transfer set; for a set in shards their common name.
        to: `imagefolder` (one folder a class, and soft_labels.npz), `webdataset` (tar shards), or `npz` (one file).
        out: folder or file to write.

    Returns:
        The set that was written.

    Raises:
        ValueError: `file` is not a transfer set or has no soft labels, or the folder `out` is not empty.
        OSError: a file cannot be written.
    """
    found = read_set(Path(file))
    FORMATS[to](found, Path(out))
    return found
