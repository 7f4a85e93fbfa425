"""State dicts from files of several formats, and hashes of a module's weights."""

import hashlib
import os
import pickle
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from datafree.core.files import opened_safetensors
from datafree.core.pickles import Quantised, read_torch
from datafree.core.settings import first_line


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a safetensors, `.pt`, `.pth` or `.th` file; the last three are read with `weights_only=True`.

    A state dict nested under `state_dict` or `model` is found, and the prefixes of DataParallel and torch.compile are
    removed. Raises `ValueError` if the file holds no state dict, needs code to be read, calls for memory, or holds tensors
    that are not plain numbers in memory (quantised, sparse).
    """
    path = existing_file(path)
    if path.suffix == ".safetensors":
        with opened_safetensors(path) as (_, read):
            return _plain(read(), path)
    try:
        found = read_torch(path)
    except Quantised as error:
        raise _quantised(path) from error
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} does not hold plain weights: reading it would run its code. If you trust it, load it yourself and save "
            "a state dict, torch.save(model.state_dict(), 'weights.pt'), then pack that."
        ) from error
    except Exception as error:  # bytes that are no pickle make torch's reader stumble in any way
        raise ValueError(
            f"{path} is not a weights file that torch can read ({first_line(error)}); save one with "
            "torch.save(model.state_dict(), 'weights.pt')."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if isinstance(found, dict) and any("_packed_params" in str(name) for name in found):
        raise _quantised(path)
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{path} holds no state dict; save one with torch.save(model.state_dict(), 'weights.pt').")
    for prefix in ("module.", "_orig_mod."):
        if all(str(name).startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    return _plain(cast(dict[str, Tensor], found), path)


def _quantised(path: Path) -> ValueError:
    return ValueError(
        f"{path} holds the weights of a quantised network, which cannot be trained on; save those of the float network from "
        "before the conversion, torch.save(model.state_dict(), 'weights.pt')."
    )


def _plain(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """`state` itself. Raises `ValueError` for a key that is no text, and a tensor that is not plain numbers in memory."""
    for name, value in state.items():
        if not isinstance(name, str):
            raise ValueError(f"{path} has a key {name!r} that is no text; save the weights with model.state_dict().")
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_nested:
            kind = "sparse" if value.device.type == "cpu" else "without its numbers"
            raise ValueError(
                f"{path} holds a tensor that is {kind}, {name!r}; pack the plain weights from before the conversion, or "
                "convert each with value.to_dense()."
            )
    return state


def refuse_non_finite(module: nn.Module, name: str) -> None:
    """Raise `ValueError` if a weight of `module` is NaN or infinite, or a buffer NaN; masks may hold infinities."""
    if found := describe_non_finite(module):
        raise ValueError(f"{found} of {name} hold NaN or infinity; give a network whose training did not diverge.")


def describe_non_finite(module: nn.Module) -> str:
    """Which weight tensors of `module` are not finite, as `3 of 62 weight tensors, conv1.weight first,`; empty if none is."""
    weights = {key for key, _ in module.named_parameters()}
    tensors = {key: value for key, value in module.state_dict().items() if value.is_floating_point()}
    bad = [
        key
        for key, value in tensors.items()
        if not (value.isfinite() if key in weights or "running_" in key else ~value.isnan()).all()
    ]
    return f"{len(bad)} of {len(tensors)} weight tensors ({bad[0]} first)" if bad else ""


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
