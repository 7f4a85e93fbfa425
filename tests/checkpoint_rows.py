"""A row of the table of docs/checkpoints.md: a way in which networks are saved, made here, and what `datafree pack` answers."""

import collections
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

StateDict = dict[str, Tensor]
Make = Callable[[Path, nn.Module, nn.Module], object]


@dataclass(frozen=True)
class Row:
    """A file is made at a path of a network and of a second one with other weights, and packed: it loads, or is refused."""

    name: str
    make: Make
    says: str = ""  # words of the refusal; empty: it loads
    entries: dict[str, str] = field(default_factory=dict)  # of the card's history
    which: str | None = None
    second: bool = False  # the second network is taken
    file: str = "weights.pt"

    @property
    def cells(self) -> tuple[str, str]:
        """The row as the document has it."""
        asked = f"{self.name}, with `--which {self.which}`" if self.which else self.name
        words = "; ".join(f"{name} `{text}`" for name, text in self.entries.items())
        return asked, f"refused: “{self.says}”" if self.says else "loads" + (f"; {words}" if words else "")


class Mode(enum.Enum):
    FAST = 1


class Config:
    """A class of somebody's own."""

    def __init__(self) -> None:
        self.width, self.mode, self.kind, self.method = 16, Mode.FAST, Any, Attributes.copied


class Attributes(dict[str, Any]):
    """A dict with attributes, as Lightning's, easydict's and mmengine's."""

    def copied(self) -> "Attributes":
        return Attributes(self)


def saved(change: Callable[[StateDict, StateDict], Any], **options: Any) -> Make:
    """Makes a file of `torch.save` of what `change` makes of the state dicts of both networks."""
    return lambda path, first, second: torch.save(change(first.state_dict(), second.state_dict()), path, **options)


def wrapped(wrap: Callable[[nn.Module], nn.Module]) -> Make:
    """Makes a file of the state dict of the wrapped network."""
    return lambda path, first, second: torch.save(wrap(first).state_dict(), path)


def inside(name: str) -> Callable[[nn.Module], nn.Module]:
    """Wraps a network as a part of another module."""
    return lambda module: nn.ModuleDict({name: module})


def under(prefix: str, state: StateDict) -> StateDict:
    """`state` with `prefix` before its names."""
    return {prefix + name: value for name, value in state.items()}


def optimizer_state() -> dict[str, Any]:
    """The state of Adam after a step."""
    weight = nn.Parameter(torch.ones(3))
    adam = torch.optim.Adam([weight])
    weight.sum().backward()
    adam.step()
    return adam.state_dict()


def lightning(state: StateDict) -> dict[str, Any]:
    """A checkpoint with the entries of Lightning's."""
    return {
        "epoch": 3,
        "global_step": 900,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": collections.OrderedDict(state),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_acc'}": {"best_model_score": torch.tensor(0.9), "dirpath": Path("x")}},
        "optimizer_states": [optimizer_state()],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": Attributes(lr=0.1),
    }
