"""`datafree demo`."""

from pathlib import Path

from datafree import demonstration


def demo(*, seed: int = 0, out: Path | None = None) -> None:
    """Teach a small network on scikit-learn's handwritten digits, throw them away, distil a smaller one with DFAD.

    Parameters
    ----------
    seed
        Seed of teaching and distilling.
    out
        Folder for the teacher, the baseline and the run; left out: runs/demo-SEED, made anew.
    """
    demonstration.show(seed, out or Path("runs") / f"demo-{seed}")
