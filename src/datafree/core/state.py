"""State that a checkpoint keeps: torch's `Stateful` protocol, and counters that follow it."""

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.checkpoint.stateful import Stateful
else:
    Stateful = Any  # only annotations use it, and importing it adds half a second to the start of every command

__all__ = ["Counter", "Counters", "Stateful", "load_checked"]


class Counter:
    """A count that a checkpoint keeps."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


@dataclass
class Counters:
    """Numbers of images, over all sessions of a run."""

    images: int = 0  # made by the method
    teacher_queries: int = 0  # images passed through the teacher
    variations: int = 0  # made by a diffusion model
    kept: int = 0  # variations that passed the filter

    def state_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)


def load_checked(part: Stateful, state: Any) -> None:
    """Load `state` from a file into `part`, if it is of the form of the part's own state.

    Raises `ValueError` if it is not, so that a foreign state is not first noticed in the middle of a step, and whatever `part`
    raises.
    """
    if wrong := misfit(part.state_dict(), state):
        raise ValueError(wrong)
    if not isinstance(part, torch.optim.Optimizer):
        part.load_state_dict(state)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of conversions: torch takes moments of any type
        part.load_state_dict(state)
    _check_moments(part)


def misfit(own: Any, given: Any, name: str = "the state") -> str | None:
    """Where `given` differs from `own` in types, or in the shapes of tensors but for their first axis; None if nowhere.

    What is empty or None in `own` may be anything in `given`, and one of them may have entries that the other lacks.
    """
    if isinstance(own, Tensor):
        if not isinstance(given, Tensor) or given.layout != torch.strided or given.is_meta:
            return f"{name} is no tensor"
        if own.numel() and (given.dtype, given.dim(), given.shape[1:]) != (own.dtype, own.dim(), own.shape[1:]):
            return f"{name} is {given.dtype} {list(given.shape)}, not {own.dtype} {list(own.shape)}"
        return None
    if not own and isinstance(own, dict | list | tuple | None):
        return None
    if isinstance(own, Mapping):
        if not isinstance(given, Mapping):
            return f"{name} is a {type(given).__name__}"
        pairs = [(own[key], given[key], str(key)) for key in own if key in given]
    elif isinstance(own, list | tuple):
        if not isinstance(given, list | tuple):
            return f"{name} is a {type(given).__name__}"
        pairs = [(own[min(i, len(own) - 1)], each, f"{name}[{i}]") for i, each in enumerate(given)]
    else:
        number = isinstance(own, int | float) and isinstance(given, int | float)
        return None if number or isinstance(given, type(own)) else f"{name} is a {type(given).__name__}"
    return next((wrong for mine, other, key in pairs if (wrong := misfit(mine, other, key))), None)


def _check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Raise `ValueError` if the state of a weight is neither of its shape nor one number."""
    for group in optimizer.param_groups:
        for weight in group["params"]:
            for name, value in optimizer.state.get(weight, {}).items():
                if isinstance(value, Tensor) and value.dim() and value.shape != weight.shape:
                    raise ValueError(f"{name} is {list(value.shape)} for a weight {list(weight.shape)}")
