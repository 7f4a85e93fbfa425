"""State dicts from files of several formats, and hashes of a module's weights."""

import hashlib
import os
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datafree.core.files import opened_safetensors
from datafree.core.filetypes import DESCRIPTIONS, file_type
from datafree.core.pickles import Found, Protocol, Quantised, StandIn, read_foreign, root_class
from datafree.core.settings import first_line
from datafree.networks.saved.checkpoints import dicts_in, is_plain, states_in
from datafree.networks.saved.prefixes import State

_VALUES = ("argparse.", "builtins.", "datetime.", "numpy.", "pathlib.", "types.")  # whose objects are no networks
_SAVE = "torch.save(model.state_dict(), 'weights.pt')"


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds.

    Args:
        states: its state dicts, at least one.
        foreign: names of classes of others in it, which were not run.
    """

    states: list[State]
    foreign: tuple[str, ...] = ()

    @property
    def largest(self) -> dict[str, Tensor]:
        """The plain tensors of the state that has most."""
        most = max(self.states, key=lambda state: len(state.tensors)).tensors
        return {name: value for name, value in most.items() if isinstance(name, str) and is_plain(value)}


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The first state dict in a file that `read_checkpoint` reads, with the names that it has there.

    Raises `ValueError` as `read_checkpoint` does, and if the tensors are not plain numbers in memory (quantised, sparse).
    """
    return plain(read_checkpoint(path).states[0].tensors, path)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """The state dicts in a safetensors file or one of `torch.save`, whatever its name; nothing in it is run.

    Raises `ValueError` if the file is of another type, holds no state dict, needs code to be read, or calls for memory.
    """
    if (kind := file_type(_existing(path))) != "torch" and kind in DESCRIPTIONS:
        what, advice = DESCRIPTIONS[kind]
        raise ValueError(f"{path} is {what}, not a file of weights that torch can read; {advice}.")
    path = Path(path)
    if kind == "safetensors" or (path.suffix == ".safetensors" and kind == "unknown"):
        with opened_safetensors(path) as (_, read):
            return Checkpoint([State("", read())])
    found = _unpickled(path)
    if any("_packed_params" in str(name) for _, each in dicts_in(found.value) for name in each):
        raise _quantised(path)
    states = [state for state in states_in(found.value) if any(value.dim() for value in state.tensors.values())]
    if not states:
        raise ValueError(f"{path} holds no state dict, but {_described(found.value)}; save one, {_SAVE}.")
    return Checkpoint(states, found.foreign)


def _existing(path: str | Path) -> Path:
    return Path(path) if Path(path).is_dir() else existing_file(path)


def _unpickled(path: Path) -> Found:
    """What `torch.save` wrote. Raises `ValueError` as `read_checkpoint` does."""
    try:
        found = read_foreign(path)
    except Quantised as error:
        raise _quantised(path) from error
    except Protocol as error:
        raise ValueError(f"{path} cannot be read ({error}); load it yourself and save the weights, {_SAVE}.") from error
    except pickle.UnpicklingError as error:
        if name := root_class(path):
            raise _whole(path, name) from error
        raise ValueError(
            f"{path} does not hold plain weights: reading it would run its code ({_reason(error)}). If you trust it, load it "
            f"yourself and save a state dict, {_SAVE}, then pack that."
        ) from error
    except Exception as error:  # bytes that are no pickle make torch's reader stumble in any way
        raise ValueError(
            f"{path} is not a weights file that torch can read ({first_line(error)}); save one with {_SAVE}."
        ) from error
    if isinstance(found.value, StandIn):
        raise _whole(path, found.value.name)
    return found


def _reason(error: pickle.UnpicklingError) -> str:
    """What a pickle has in it that is refused: torch's reader says so in several lines."""
    named = re.search(r"GLOBAL (\S{1,200})", str(error))
    return f"it contains {named[1]}" if named else first_line(error)


def _whole(path: Path, name: str) -> ValueError:
    return ValueError(
        f"{path} holds a whole object of class {name}, not its weights: reading it would run the code of that class. If you "
        f"trust it, load it yourself where its code is, and save a state dict, {_SAVE}, then pack that."
    )


def _described(value: Any) -> str:
    """What lies in a checkpoint without a state dict, for the sentence that refuses it."""
    if isinstance(value, Tensor):
        return "one tensor without a name"
    if isinstance(value, list | tuple):
        return "a list of tensors without names" if any(isinstance(each, Tensor) for each in value) else "a list"
    if not isinstance(value, dict):
        return f"a value of type {type(value).__name__}"
    names = ", ".join(repr(str(name)[:60]) for name in list(value)[:4]) or "nothing"
    objects = (
        f", and an object of class {each.name} under {str(name)[:60]!r}"
        for name, each in value.items()
        if isinstance(each, StandIn) and not each.name.startswith(_VALUES)
    )
    arrays = any(isinstance(each, StandIn) and each.name.endswith("._reconstruct") for each in value.values())
    return f"a dict of {names}" + (" as numpy arrays; make each a tensor by torch.from_numpy" if arrays else next(objects, ""))


def _quantised(path: Path) -> ValueError:
    return ValueError(
        f"{path} holds the weights of a quantised network, which cannot be trained on; save those of the float network from "
        f"before the conversion, {_SAVE}."
    )


def plain(state: dict[Any, Tensor], path: str | Path) -> dict[str, Tensor]:
    """`state` itself. Raises `ValueError` for a key that is no text, and a tensor that is not plain numbers in memory."""
    for name, value in state.items():
        if not isinstance(name, str):
            raise ValueError(f"{path} has a key {name!r} that is no text; save the weights with model.state_dict().")
        if not is_plain(value):
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
