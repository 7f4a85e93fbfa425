"""Network files: a network file in, a network file out; weights as safetensors, a card that says what they are."""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from datafree.core.files import MAX_CARD, metadata_entry, opened_safetensors, replace_atomically
from datafree.core.settings import Settings, explain
from datafree.core.spec import InputSpec
from datafree.networks.architectures import OURS
from datafree.networks.build import Option, build
from datafree.networks.weights import existing, parameters

_LABEL = "datafree.card"
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

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return parameters(self.module)

    def save(self, path: str | Path) -> None:
        """Write weights and card as one safetensors file, atomically."""
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in self.module.state_dict().items()}
        label = {_LABEL: self.card.model_dump_json()}
        replace_atomically(Path(path), lambda temporary: save_file(tensors, temporary, metadata=label))


def read_card(path: str | Path) -> Card:
    """The card of a network file, without its weights. Raises `ValueError` where it has none that is valid."""
    return _card(metadata_entry(existing(path), _LABEL), path)


def load(path: str | Path, allow_code: Collection[str] = ()) -> Network:
    """Read a network file. Building a factory outside our tables and timm's imports and calls it, so its package must be
    named in `allow_code`. Raises `ValueError` for a file that is none, or whose weights do not fit its card.
    """
    with opened_safetensors(existing(path)) as (metadata, read):
        card = _card(metadata.get(_LABEL), path)
        return filled(card, read(), path, allow_code)


def _card(label: str | None, path: str | Path) -> Card:
    if label is None:
        raise ValueError(f"{path} has no card; make a network file of it with `datafree pack`.")
    if len(label) > MAX_CARD:
        raise ValueError(f"The card of {path} has {len(label)} bytes, more than {MAX_CARD}; it is not one of ours.")
    try:
        return Card.model_validate_json(label)
    except ValidationError as error:
        raise ValueError(f"The card of {path} is not valid: {explain(error)}") from error


def filled(card: Card, state: dict[str, Tensor], path: str | Path, allow_code: Collection[str]) -> Network:
    """The network that `card` describes, with the weights of `state`, in eval mode.

    Our own networks are built without storage first: a card may ask for terabytes, and the misfit then shows for free.
    """
    ours = card.architecture in OURS
    with torch.device("meta") if ours else contextlib.nullcontext():
        module = build(card.architecture, card.inputs, card.classes, card.options, allow_code)
    _refuse_misfit(module, state, card.architecture, path)
    module = module.to_empty(device="cpu") if ours else module
    counters = {name: torch.zeros_like(value) for name, value in module.state_dict().items() if name.endswith(_UNUSED)}
    module.load_state_dict(counters | state)
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
