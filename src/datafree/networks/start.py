"""Weights to begin with: of a file, or of the teacher, wherever a tensor of the same name and shape is found."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from datafree.networks.saved.weights import parameters, read_weights
from datafree.networks.shrink.resized import inside

TEACHER = "teacher"  # in place of a file


def start_from(student: nn.Module, weights: str | Path, teacher: nn.Module) -> str:
    """Copy into `student`, in place, the tensors of `weights`, a file or `teacher`, whose names and shapes it has.

    A student that resizes its inputs has the names of the network inside.

    Returns:
        How many were copied, for a person.

    Raises:
        ValueError: the file holds no state dict, or nothing of it fits.
    """
    source = str(weights)
    given = teacher.state_dict() if source == TEACHER else read_weights(weights)
    own = inside(student).state_dict()
    fits = _fitting(_inside_names(given), own)
    if not fits:
        raise ValueError(
            f"No tensor of {'the teacher' if source == TEACHER else source} has a name and shape of the student's; leave out "
            "--student-weights, or take a student of the same layers, for example one of the teacher's width."
        )
    with torch.no_grad():
        for name, value in fits.items():
            own[name].copy_(value)
    copied = sum(value.numel() for name, value in fits.items() if name in dict(inside(student).named_parameters()))
    share = 100 * copied / max(1, parameters(student))
    return f"{len(fits)} of {len(own)} tensors from {source}, {share:.0f} % of the weights"


def _fitting(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in given.items()
        if name in own and own[name].shape == value.shape and own[name].is_floating_point() == value.is_floating_point()
        if not name.endswith("num_batches_tracked")
    }


def _inside_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` without the prefix of a network that resizes its inputs."""
    resized = bool(state) and all(name.startswith("network.") for name in state)
    return {name.removeprefix("network.") if resized else name: value for name, value in state.items()}
