"""Network files: a network file in, a network file out; weights as safetensors, a card that says what they are."""

import json
import os
import pickle
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from datafree.answers import TASKS, probe
from datafree.architectures import Option, build, timm_description
from datafree.files import header_of, replace_atomically
from datafree.nets import OURS
from datafree.settings import Settings, explain, first_line
from datafree.spec import InputSpec

MAX_CARD = 64 * 2**10  # bytes of a card's JSON
_UNUSED = "num_batches_tracked"  # a counter that files from before torch 0.4.1 lack, and that nothing here reads


class Card(Settings):
    """The label on a network file: everything needed to build the network again, and how it came to be."""

    format: Literal[1] = 1
    """Version of this label."""
    architecture: str = Field(max_length=200)
    """A name of ours, `timm:NAME`, or `package.module:factory`."""
    options: dict[str, Option] = Field(default_factory=dict, max_length=64)
    """Keyword arguments of the factory."""
    classes: int = Field(ge=2, le=1_000_000)
    """Number of classes, the size of dim 1 of the answer."""
    task: Literal["classification", "segmentation"] = "classification"
    """What the answer means."""
    inputs: InputSpec
    """Shape and scaling of one input."""
    history: tuple[dict[str, Option], ...] = Field((), max_length=100)
    """What happened to the weights, oldest first."""


@dataclass(frozen=True)
class Network:
    """A module and its card."""

    module: nn.Module
    card: Card

    def save(self, path: str | Path) -> None:
        """Write weights and card as one safetensors file, atomically."""
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in self.module.state_dict().items()}
        label = {"datafree.card": self.card.model_dump_json()}
        replace_atomically(Path(path), lambda temporary: save_file(tensors, temporary, metadata=label))


def read_card(path: str | Path) -> Card:
    """The card of a network file, without its weights. Raises `ValueError` where it is none of ours."""
    label = header_of(_existing(path)).get("datafree.card")
    if label is None:
        raise ValueError(f"{path} has no card; make a network file of it with `datafree pack`.")
    if len(label) > MAX_CARD:
        raise ValueError(f"The card of {path} has {len(label)} bytes, more than {MAX_CARD}; it is not one of ours.")
    try:
        return Card.model_validate_json(label)
    except ValidationError as error:
        raise ValueError(f"The card of {path} is not valid: {explain(error)}") from error


def load(path: str | Path, allow_code: Collection[str] = ()) -> Network:
    """Read a network file. Building a factory outside our tables and timm's imports and calls it, so its package must be
    named in `allow_code`. Raises `ValueError` for a file that is none, or whose weights do not fit its card.
    """
    card = read_card(path)
    return _filled(card, read_weights(path), path, allow_code)


def pack(
    weights: str | Path,
    architecture: str,
    inputs: InputSpec | None = None,
    classes: int | None = None,
    options: Mapping[str, Option] | None = None,
    allow_code: Collection[str] = (),
) -> Network:
    """Weights on disk plus what they are, as a `Network` ready to save.

    `inputs` and `classes` may be left out for timm's networks, whose `pretrained_cfg` knows them. Raises `ValueError`
    for missing, unexpected or misshapen keys, and for a file that needs unpickling code.
    """
    state = read_weights(weights)
    if architecture.startswith("timm:") and (inputs is None or classes is None):
        known_inputs, known_classes = timm_description(architecture.removeprefix("timm:"))
        inputs, classes = inputs or known_inputs, classes or known_classes
    if inputs is None or classes is None:
        missing = "--inputs" if inputs is None else "--classes"
        raise ValueError(f"{architecture} does not say what it takes; pass {missing}.")
    card = Card(
        architecture=architecture,
        options=dict(options or {}),
        classes=classes,
        inputs=inputs,
        history=({"event": "packed", "from": Path(weights).name},),
    )
    packed = _filled(card, state, weights, allow_code)
    task = TASKS[probe("network", packed.module, inputs).dim()]
    return Network(packed.module, card.model_copy(update={"task": task}))


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a safetensors file or a `.pt`/`.pth`/`.th` file, the latter read with `weights_only=True` alone.

    Looks inside `state_dict` and `model`, and drops the prefixes of DataParallel and torch.compile. Raises `ValueError`.
    """
    path = _existing(path)
    if path.suffix == ".safetensors":
        header_of(path)  # bounds the header, and tells a cut file in words
        try:
            tensors: dict[str, Tensor] = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a readable safetensors file ({error}).") from error
        return tensors
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} does not hold plain weights: reading it would run its code. Where you trust it, load it yourself and save "
            "a state dict, torch.save(model.state_dict(), 'weights.pt'), then pack that."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise ValueError(f"{path} is not a weights file that torch can read ({first_line(error)}).") from error
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{path} holds no state dict; save one with torch.save(model.state_dict(), 'weights.pt').")
    for prefix in ("module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    return cast(dict[str, Tensor], found)


def parameters(network: nn.Module) -> int:
    """Number of weights of a network."""
    return sum(weight.numel() for weight in network.parameters())


def _existing(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise ValueError(f"{os.fspath(path)} is not there; name a file that is.")
    return Path(path)


def _filled(card: Card, state: dict[str, Tensor], path: str | Path, allow_code: Collection[str]) -> Network:
    """The network that `card` describes, with the weights of `state`."""
    description = (card.architecture, card.inputs, card.classes, card.options, allow_code)
    if card.architecture in OURS:  # a card may ask for terabytes; without storage the misfit shows for free
        with torch.device("meta"):
            _refuse_misfit(build(*description), state, card.architecture, path)
    module = build(*description)
    _refuse_misfit(module, state, card.architecture, path)
    module.load_state_dict(module.state_dict() | state)
    return Network(module.eval(), card)


def _refuse_misfit(module: nn.Module, state: dict[str, Tensor], architecture: str, path: str | Path) -> None:
    """Raise `ValueError` with the first names of `state` that do not fit `module`."""
    own = module.state_dict()
    wrong = {
        "missing": [name for name in own if name not in state and not name.endswith(_UNUSED)],
        "unexpected": [name for name in state if name not in own],
        "misshapen": [
            f"{name} ({list(state[name].shape)} in the file, {list(own[name].shape)} in the network)"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ],
    }
    complaints = [f"{len(names)} {kind}: {', '.join(names[:3])}" for kind, names in wrong.items() if names]
    if complaints:
        raise ValueError(
            f"The weights in {path} do not fit {architecture}: {'; '.join(complaints)}. "
            "Check --arch, --classes and --inputs, or rename the keys to the network's own."
        )


def card_json(card: Card) -> str:
    """A card as a person reads it."""
    return json.dumps(card.model_dump(mode="json"), indent=2)
