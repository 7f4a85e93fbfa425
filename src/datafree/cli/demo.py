"""`datafree demo`."""

from pathlib import Path

import datafree


def demo(*, seed: int = 0, out: Path | None = None) -> None:
    """Train a small teacher on scikit-learn's handwritten digits, throw them away, distil a smaller student with DFAD.

    Parameters
    ----------
    seed
        Seed of the teacher and of the student.
    out
        Folder for the teacher, the baseline and the run; left out: runs/demo-SEED, made anew.
    """
    datafree.demo(seed, out)
