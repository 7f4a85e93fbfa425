"""The command `datafree demo`."""

from pathlib import Path

import datafree


def demo(*, seed: int = 0, out: Path | None = None) -> None:
    """Train a small teacher on scikit-learn's handwritten digits, discard them, distil a smaller student with DFAD.

    Args:
        seed: Seed of the teacher and of the student.
        out: Folder for the teacher, the baseline and the run, emptied first if it is a demo's; left out: runs/demo-SEED.
    """
    datafree.demo(seed, out)
