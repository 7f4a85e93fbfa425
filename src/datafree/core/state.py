"""State that a checkpoint keeps: torch's `Stateful` protocol, and counters that follow it."""

import dataclasses
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


MOST = 2**53  # of a count
# What an optimizer keeps for each weight: one number, or a tensor of the weight's shape.
_MOMENTS = {
    torch.optim.SGD: ("momentum_buffer",),
    torch.optim.Adam: ("step", "exp_avg", "exp_avg_sq"),
    torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"),
}
_PROGRESS = ("last_epoch", "_step_count", "_last_lr")  # of a schedule; all else follows from the settings of the run


def load_checked(part: Stateful, state: Any) -> None:
    """Load `state` from a file into `part`, if it is of the form of the part's own state.

    Of optimizers and schedules only what changes during a run is taken from the file. Raises `ValueError` if the form is
    another, so that a foreign state is not first noticed in the middle of a step, and whatever `part` raises.
    """
    own = part.state_dict()
    if wrong := odd_tensor(state) or misfit(own, state):
        raise ValueError(wrong)
    if isinstance(part, torch.optim.Optimizer):
        state = _optimizer_state(part, own, state)
    elif isinstance(part, torch.optim.lr_scheduler.LRScheduler):
        state = {**own, **{name: state[name] for name in _PROGRESS if name in own}}
    part.load_state_dict(state)


def odd_tensor(state: Any) -> str | None:
    """A tensor in `state` that no run saves, since its numbers are not all in memory; None if there is none.

    Each group is looked at once: a small file can hold one in so many places that no walk through all of them ends.
    """
    groups, seen = [state], {id(state)}
    while groups:
        group = groups.pop()
        for value in group.values() if isinstance(group, Mapping) else group if isinstance(group, list | tuple) else ():
            if isinstance(value, Tensor) and not _is_whole(value):
                return f"a tensor {list(value.shape)} is not stored whole"
            if isinstance(value, Mapping | list | tuple) and id(value) not in seen:
                seen.add(id(value))
                groups.append(value)
    return None


def _is_whole(value: Tensor) -> bool:
    """Whether `value` has plain numbers, each with a place of its own in memory."""
    if value.layout != torch.strided or value.is_meta or value.is_nested or value.is_quantized or value.is_complex():
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def misfit(own: Any, given: Any, name: str = "the state") -> str | None:
    """Where `given` differs from `own` in types, or in the shapes of tensors but for their first axis; None if nowhere.

    What is an empty group or None in `own` may be anything in `given`, and one may have entries that the other lacks.
    """
    if isinstance(own, Tensor):
        if not isinstance(given, Tensor):
            return f"{name} is no tensor"
        if (given.dtype, given.dim(), given.shape[1:]) != (own.dtype, own.dim(), own.shape[1:]):
            return f"{name} is {given.dtype} {list(given.shape)}, not {own.dtype} {list(own.shape)}"
        return None
    if not own and isinstance(own, dict | list | tuple | None):
        return None if own is None or isinstance(given, type(own)) else f"{name} is a {type(given).__name__}"
    if isinstance(own, Mapping):
        if not isinstance(given, Mapping):
            return f"{name} is a {type(given).__name__}"
        pairs = [(own[key], given[key], str(key)) for key in own if key in given]
    elif isinstance(own, list | tuple):
        if not isinstance(given, list | tuple):
            return f"{name} is a {type(given).__name__}"
        pairs = [(own[min(i, len(own) - 1)], each, f"{name}[{i}]") for i, each in enumerate(given)]
    elif type(own) is int:
        return None if type(given) is int and 0 <= given < MOST else f"{name} is no count"
    else:
        number = isinstance(own, float) and isinstance(given, int | float)
        return None if number or isinstance(given, type(own)) else f"{name} is a {type(given).__name__}"
    return next((wrong for mine, other, key in pairs if (wrong := misfit(mine, other, key))), None)


def _optimizer_state(optimizer: torch.optim.Optimizer, own: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The moments and learning rates of `given` with the settings of `optimizer`. Raises `ValueError` if they do not fit it."""
    groups, weights = own["param_groups"], [weight for group in optimizer.param_groups for weight in group["params"]]
    if [group["params"] for group in given["param_groups"]] != [group["params"] for group in groups]:
        raise ValueError("its optimizer is for other weights")
    names = _MOMENTS[type(optimizer)]
    for number, moments in given["state"].items():
        weight = weights[number]
        if not isinstance(moments, Mapping):
            raise ValueError(f"the moments of weight {number} are a {type(moments).__name__}")
        for name in names:
            value = moments[name]
            if value is None and name == "momentum_buffer":  # before the first step, or without momentum
                continue
            shape = () if name == "step" else weight.shape
            if not isinstance(value, Tensor) or not value.is_floating_point() or value.shape != shape:
                seen = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"{name} is {seen} for a weight {list(weight.shape)}")
    rates = [float(group["lr"]) for group in given["param_groups"]]
    state = {number: {name: moments[name] for name in names} for number, moments in given["state"].items()}
    if "momentum_buffer" in names and any(each["momentum_buffer"] is not None for each in state.values()):
        for number, weight in enumerate(weights):  # a fused step takes a momentum for all or for none; zero is as none
            if weight.requires_grad and state.get(number, {}).get("momentum_buffer") is None:
                state[number] = {"momentum_buffer": torch.zeros_like(weight)}
    return {
        "state": state,
        "param_groups": [{**group, "lr": rate} for group, rate in zip(groups, rates, strict=True)],
    }
