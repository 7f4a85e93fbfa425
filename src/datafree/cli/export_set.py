"""The command `datafree export-set`."""

from pathlib import Path
from typing import Literal

import datafree
from datafree.core.terminal import show


def export_set(file: Path, *, to: Literal["imagefolder", "webdataset", "npz"], out: Path) -> None:
    """Write a transfer set for other training code: 8-bit images with the teacher's soft labels.

    Args:
        file: A transfer set; for a set in shards their common name.
        to: imagefolder: one folder a class and soft_labels.npz; webdataset: tar shards; npz: one file.
        out: The folder or file to write.
    """
    found = datafree.export_set(file, to, out)
    show(f"{out}: {len(found):,} images as {to}")
