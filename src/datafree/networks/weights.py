"""State dicts from files of several formats, and hashes of a module's weights."""

import hashlib
import os
import pickle
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from datafree.core.files import opened_safetensors
from datafree.core.settings import first_line


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a safetensors, `.pt`, `.pth` or `.th` file; the last three are read with `weights_only=True`.

    A state dict nested under `state_dict` or `model` is found, and the prefixes of DataParallel and torch.compile are
    removed. Raises `ValueError` if the file holds no state dict, or needs code to be read.
    """
    path = existing_file(path)
    if path.suffix == ".safetensors":
        with opened_safetensors(path) as (_, read):
            return read()
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} does not hold plain weights: reading it would run its code. If you trust it, load it yourself and save "
            "a state dict, torch.save(model.state_dict(), 'weights.pt'), then pack that."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"{path} is not a weights file that torch can read ({first_line(error)}); save one with "
            "torch.save(model.state_dict(), 'weights.pt')."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{path} holds no state dict; save one with torch.save(model.state_dict(), 'weights.pt').")
    for prefix in ("module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    return cast(dict[str, Tensor], found)


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of a module's weights and buffers with their names, shapes and types, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name} {list(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def shapes_fingerprint(module: nn.Module) -> str:
    """SHA-256 of the names and shapes of a module's weights: equal for all networks of one architecture, trained or not."""
    layout = [(name, list(value.shape)) for name, value in module.state_dict().items()]
    return hashlib.sha256(repr(layout).encode()).hexdigest()


def parameters(network: nn.Module) -> int:
    """Number of weights in `network`."""
    return sum(weight.numel() for weight in network.parameters())


def existing_file(path: str | Path) -> Path:
    """`path` as a `Path`. Raises `ValueError` if the file does not exist."""
    if not Path(path).is_file():
        raise ValueError(f"{os.fspath(path)} does not exist; name an existing file.")
    return Path(path)
