"""Network files: weights as safetensors, with a card that describes the network."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer
from safetensors.torch import save, save_file
from torch import Tensor, nn

from datafree.core.files import MAX_CARD, metadata_entry, opened_safetensors, replace_atomically
from datafree.core.settings import Option, Settings, explain
from datafree.core.shortages import is_out_of_memory
from datafree.core.spec import InputSpec, Side
from datafree.networks.architectures import ARCHITECTURES
from datafree.networks.building.build import build, is_real, outline
from datafree.networks.building.limits import FOREIGN, MAX_WEIGHTS, SCRATCH, SPARE, reason_of
from datafree.networks.building.work import refuse_costly
from datafree.networks.outputs import TASKS
from datafree.networks.programs.files import ASKED, BLACK_BOXES, PROGRAM
from datafree.networks.programs.graph import parse
from datafree.networks.programs.program import Program
from datafree.networks.saved.weights import existing_file, parameters
from datafree.networks.shrink.resized import behind_resizing, resized_inputs
from datafree.networks.shrink.shrunk import Channels, refuse_swollen, shrink_layers
from datafree.networks.validation import Validation

LABEL, _GRAPH = "datafree.card", "datafree.program"
_UNUSED = "num_batches_tracked"  # a counter that nothing here reads, and that files from before torch 0.4.1 lack


class Card(Settings):
    """Metadata of a network file: what is needed to build the network again, and where its weights come from."""

    format: Literal[1] = 1
    """Version of the card's format."""
    architecture: str = Field(max_length=200)
    """A name from `ARCHITECTURES`, `timm:NAME`, `torchvision:NAME`, `transformers:TASK`, `package.module:factory`, or
    `program`: the file holds the network's graph."""
    options: dict[str, Option] = Field(default_factory=dict, max_length=64)
    """Keyword arguments of the factory."""
    classes: int = Field(ge=2, le=1_000_000)
    """Number of classes, the size of dim 1 of the logits."""
    task: Literal["classification", "segmentation"] = "classification"
    """Logits [B, classes], one vector an image, or [B, classes, H, W], one a pixel."""
    inputs: InputSpec
    """Shape and scaling of one input."""
    resized_to: tuple[Side, Side, Side] | None = None
    """Channels, height and width to which the network resizes its inputs itself; None: it does not."""
    channels: Channels = Field(default_factory=dict)
    """Layers that have fewer channels than the architecture gives them, after structured pruning, by name."""
    history: tuple[dict[str, Option], ...] = Field((), max_length=100)
    """Events that produced the weights, oldest first."""
    validation: Validation | None = None
    """What the network did on real labelled data, where that is known."""

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The fields, without those that most networks do not use, so that earlier versions read their files."""
        unused = ("resized_to", "channels", "validation")
        return {name: value for name, value in handler(self).items() if value or name not in unused}

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
        notes: what a person should know of how it was read.
    """

    module: nn.Module
    card: Card
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return parameters(self.module)

    def save(self, path: str | Path) -> None:
        """Write weights and card as one safetensors file, atomically.

        Args:
            path: file to write.

        Raises:
            ValueError: the network is one of `BLACK_BOXES`.
            OSError: the file cannot be written; an earlier one is kept.
        """
        tensors, label = self._content()
        replace_atomically(Path(path), lambda temporary: save_file(tensors, temporary, metadata=label), parents=True)

    @property
    def file_bytes(self) -> int:
        """Size of the file that `save` writes, bytes."""
        return len(save(*self._content()))

    def _content(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in self.module.state_dict().items()}
        label = {LABEL: self.card.model_dump_json()}
        if self.card.architecture in BLACK_BOXES:
            instead = "the function or the command itself" if self.card.architecture == ASKED else "its own file"
            raise ValueError(
                f"A network that runs as {self.card.architecture} has no graph that could be kept; give {instead} as the "
                "teacher."
            )
        if isinstance(self.module, Program):
            label[_GRAPH] = self.module.graph.text()
        return tensors, label


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
        if card.architecture == PROGRAM:
            return _program(card, metadata.get(_GRAPH, ""), read, path)
        return from_card(card, read(), path, allow_code)


def _program(card: Card, text: str, read: Callable[[], dict[str, Tensor]], path: str | Path) -> Network:
    """The network of a file that holds its graph, as text."""
    try:
        module = Program(parse(text), read())
    except ValueError as error:
        raise ValueError(f"The program in {path} {error}; make the file again with `datafree pack`.") from error
    refuse_costly("network", module, card.inputs, small=0)
    return Network(module, card)


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


def from_card(
    card: Card,
    state: dict[str, Tensor],
    path: str | Path,
    allow_code: Collection[str],
    choose: Callable[[dict[str, Tensor]], tuple[dict[str, Tensor], str]] | None = None,
) -> Network:
    """The network that `card` describes, in eval mode, with the weights `state` of the file `path`.

    `choose` is given the network's own state dict, without memory, and returns the weights that are taken instead of `state`
    and where they lie; `state` then only says how much memory the network may take.

    Raises `ValueError` if the network cannot be built or the weights do not fit it.
    """
    # First without memory: a card may ask for terabytes, and weights that do not fit are found before any is used.
    weights = sum(value.untyped_storage().nbytes() for value in state.values())
    most = 2 * sum(value.numel() for value in state.values()) + SPARE
    module = outlined(card, allow_code, scratch=max(SCRATCH, weights), most=most)
    if choose:
        state, path = choose(module.state_dict())
    _refuse_misfit(module, state, card.architecture, path)
    if card.architecture in ARCHITECTURES:
        module = module.to_empty(device="cpu")
    elif not is_real(module):
        module = built(card, allow_code)  # others' networks also hold tensors that are not in the file
    counters = {name: torch.zeros_like(value) for name, value in module.state_dict().items() if name.endswith(_UNUSED)}
    try:
        module.load_state_dict(counters | state)
    except FOREIGN as error:  # a network may read its weights in its own way
        if is_out_of_memory(error):
            raise
        raise ValueError(f"{card.architecture} does not take the weights in {path}: {reason_of(error)}.") from error
    return Network(module.eval(), card)


def built(card: Card, allow_code: Collection[str] = ()) -> nn.Module:
    """The network that `card` describes, with random weights. Raises `ValueError` as `build` does."""
    inputs = resized_inputs(card.inputs, card.resized_to)
    whole = build(card.architecture, inputs, card.classes, card.options, allow_code)
    return behind_resizing(shrink_layers(whole, card.channels), card.resized_to)


def outlined(card: Card, allow_code: Collection[str] = (), scratch: int = SCRATCH, most: int = MAX_WEIGHTS) -> nn.Module:
    """The network that `card` describes on the meta device; see `outline` for the limits, and for what it raises."""
    inputs = resized_inputs(card.inputs, card.resized_to)
    whole = outline(card.architecture, inputs, card.classes, card.options, allow_code, scratch, most)
    if card.channels:
        refuse_swollen(whole, most)
    return behind_resizing(shrink_layers(whole, card.channels), card.resized_to)


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
