"""What a run says of itself in `run.json`: who took part, what it cost, which real bytes touched it."""

import hashlib
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datafree.data import Labelled
from datafree.files import sha256


def fingerprint(module: nn.Module) -> str:
    """Hash of a module's weights and buffers, names, shapes and types included, as hex."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name} {list(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def shapes_fingerprint(module: nn.Module) -> str:
    """Hash of a module's weight names and shapes alone: the same for a fresh and a trained network of one kind."""
    layout = [(name, list(value.shape)) for name, value in module.state_dict().items()]
    return hashlib.sha256(repr(layout).encode()).hexdigest()


def path_fingerprint(path: Path) -> str:
    """Hash of a file's bytes, or of the names and sizes of a folder's files. `absent` where there is nothing."""
    if path.is_file():
        return sha256(path)
    if not path.is_dir():
        return "absent"
    listing = sorted((str(p.relative_to(path)), p.stat().st_size) for p in path.rglob("*") if p.is_file())
    return hashlib.sha256(repr(listing).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for package in ("datafree", "torch", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def command() -> str:
    """The command line of this process."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def provenance(training: str, evaluation: Labelled | None) -> dict[str, Any]:
    """Which real data touched the run; `data_free` holds where the student never saw any."""
    seen: dict[str, Any] | str = "none"
    if evaluation:
        digest = hashlib.sha256(evaluation.pixels.numpy().tobytes() + evaluation.labels.numpy().tobytes()).hexdigest()
        seen = {"data": evaluation.source, "images": len(evaluation.labels), "sha256": digest}
    return {"data_free": training == "none", "training": training, "evaluation": seen}
