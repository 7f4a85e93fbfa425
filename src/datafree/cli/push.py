"""The command `datafree push`."""

from pathlib import Path

import datafree
from datafree.core.terminal import show


def push(run: Path, *, to: str, private: bool = False) -> None:
    """Write a finished run's student as a folder of the Hugging Face Hub, with a model card, or upload it.

    Args:
        run: The run's folder.
        to: A new folder, or hf://OWNER/NAME to upload.
        private: A repository that does not exist yet becomes private.
    """
    show(f"pushed: {datafree.push(run, to, private=private)}")
