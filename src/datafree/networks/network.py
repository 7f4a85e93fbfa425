"""Network files: weights as safetensors, with a card that describes the network."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from datafree.core.files import MAX_CARD, metadata_entry, opened_safetensors, replace_atomically
from datafree.core.settings import Option, Settings, explain
from datafree.core.shortages import is_out_of_memory
from datafree.core.spec import InputSpec
from datafree.networks.architectures import ARCHITECTURES
from datafree.networks.build import build, is_real, outline
from datafree.networks.limits import FOREIGN, SCRATCH, SPARE, reason_of
from datafree.networks.outputs import TASKS
from datafree.networks.weights import existing_file, parameters

LABEL = "datafree.card"
_UNUSED = "num_batches_tracked"  # a counter that nothing here reads, and that files from before torch 0.4.1 lack


class Card(Settings):
    """Metadata of a network file: what is needed to build the network again, and where its weights come from."""

    format: Literal[1] = 1
    """Version of the card's format."""
    architecture: str = Field(max_length=200)
    """A name from `ARCHITECTURES`, `timm:NAME`, `torchvision:NAME`, `transformers:TASK`, or `package.module:factory`."""
    options: dict[str, Option] = Field(default_factory=dict, max_length=64)
    """Keyword arguments of the factory."""
    classes: int = Field(ge=2, le=1_000_000)
    """Number of classes, the size of dim 1 of the logits."""
    task: Literal["classification", "segmentation"] = "classification"
    """Logits [B, classes], one vector an image, or [B, classes, H, W], one a pixel."""
    inputs: InputSpec
    """Shape and scaling of one input."""
    history: tuple[dict[str, Option], ...] = Field((), max_length=100)
    """Events that produced the weights, oldest first."""

    def check(self, logits: Tensor) -> None:
        """Raise `ValueError` unless `logits` [B, classes, ...] are of this number of classes and this task."""
        if logits.shape[1] != self.classes:
            raise ValueError(
                f"{self.architecture} returns {logits.shape[1]} classes, and its card says {self.classes}; pass --classes "
                f"{logits.shape[1]} to `datafree pack`, or options by which it has as many."
            )
        if TASKS[logits.dim()] != self.task:
            raise ValueError(
                f"{self.architecture} returns {list(logits.shape[1:])} for an input, which is {TASKS[logits.dim()]}, and its "
                f"card says {self.task}; make the file again with `datafree pack`."
            )


@dataclass(frozen=True)
class Network:
    """A module and its card.

    Args:
        module: takes inputs [B, C, H, W] in network units, returns logits [B, classes] or [B, classes, H, W].
        card: describes the module and its inputs.
    """

    module: nn.Module
    card: Card

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return parameters(self.module)

    def save(self, path: str | Path) -> None:
        """Write weights and card as one safetensors file, atomically.

        Args:
            path: file to write.

        Raises:
            OSError: the file cannot be written; an earlier one is kept.
        """
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in self.module.state_dict().items()}
        label = {LABEL: self.card.model_dump_json()}
        replace_atomically(Path(path), lambda temporary: save_file(tensors, temporary, metadata=label), parents=True)


def read_card(path: str | Path) -> Card:
    """The card of a network file, without its weights. Raises `ValueError` if the file has no valid card."""
    return _parse_card(metadata_entry(existing_file(path), LABEL), path)


def load(path: str | Path, allow_code: Collection[str] = ()) -> Network:
    """Read a network file.

    Args:
        path: file written by `Network.save` or `datafree pack`.
        allow_code: packages whose code may be imported and called to build the network; this package and timm need not be
            named.

    Returns:
        The network, on the CPU, in eval mode.

    Raises:
        ValueError: the file does not exist, has no valid card or weights that do not fit it, or needs code that is not in
            `allow_code`.
    """
    with opened_safetensors(existing_file(path)) as (metadata, read):
        card = _parse_card(metadata.get(LABEL), path)
        return from_card(card, read(), path, allow_code)


def _parse_card(label: str | None, path: str | Path) -> Card:
    if label is None:
        raise ValueError(f"{path} has no card; make a network file of it with `datafree pack`.")
    if len(label) > MAX_CARD:
        raise ValueError(
            f"The card of {path} has {len(label)} bytes, more than {MAX_CARD}; make the file again with `datafree pack`."
        )
    try:
        return Card.model_validate_json(label)
    except ValidationError as error:
        raise ValueError(
            f"The card of {path} is not valid: {explain(error)} Make the file again with `datafree pack`."
        ) from error


def from_card(card: Card, state: dict[str, Tensor], path: str | Path, allow_code: Collection[str]) -> Network:
    """The network that `card` describes, in eval mode, with the weights `state` of the file `path`.

    Raises `ValueError` if the network cannot be built or the weights do not fit it.
    """
    # First without memory: a card may ask for terabytes, and weights that do not fit are found before any is used.
    weights = sum(value.untyped_storage().nbytes() for value in state.values())
    what = (card.architecture, card.inputs, card.classes, card.options, allow_code)
    most = 2 * sum(value.numel() for value in state.values()) + SPARE
    module = outline(*what, scratch=max(SCRATCH, weights), most=most)
    _refuse_misfit(module, state, card.architecture, path)
    if card.architecture in ARCHITECTURES:
        module = module.to_empty(device="cpu")
    elif not is_real(module):
        module = build(*what)  # others' networks also hold tensors that are not in the file
    counters = {name: torch.zeros_like(value) for name, value in module.state_dict().items() if name.endswith(_UNUSED)}
    try:
        module.load_state_dict(counters | state)
    except FOREIGN as error:  # a network may read its weights in its own way
        if is_out_of_memory(error):
            raise
        raise ValueError(f"{card.architecture} does not take the weights in {path}: {reason_of(error)}.") from error
    return Network(module.eval(), card)


def _refuse_misfit(module: nn.Module, state: dict[str, Tensor], architecture: str, path: str | Path) -> None:
    """Raise `ValueError` with the first names of `state` that do not fit `module`."""
    expected = module.state_dict()
    wrong = {
        "missing": [name for name in expected if name not in state and not name.endswith(_UNUSED)],
        "unexpected": [name for name in state if name not in expected],
        "misshapen": [
            f"{name} ({list(state[name].shape)} in the file, {list(expected[name].shape)} in the network)"
            for name in expected
            if name in state and state[name].shape != expected[name].shape
        ],
        "of another type": [
            f"{name} ({state[name].dtype} in the file, {expected[name].dtype} in the network)"
            for name in expected
            if name in state and _kind(state[name]) != _kind(expected[name])
        ],
    }
    problems = [f"{len(names)} {kind}: {', '.join(names[:3])}" for kind, names in wrong.items() if names]
    if problems:
        raise ValueError(
            f"The weights in {path} do not fit {architecture}: {'; '.join(problems)}. "
            "Check --arch, --classes and --inputs, or rename the keys as the network names them."
        )


def _kind(value: Tensor) -> str:
    """Types between which weights are converted as they are read: half precision becomes single precision."""
    return "floating" if value.is_floating_point() else "complex" if value.is_complex() else "integer"
