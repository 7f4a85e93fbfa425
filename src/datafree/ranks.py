"""Several processes that work together: which one this is, and what all of them must agree on."""

import os
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor


def place() -> tuple[int, int]:
    """Which process this is and of how many, counted from 1, as torchrun says; (1, 1) without it."""
    return int(os.environ.get("RANK", "0")) + 1, int(os.environ.get("WORLD_SIZE", "1"))


def together() -> bool:
    """Whether a process group stands, so that batches are parts of one batch."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Mean(torch.autograd.Function):
    """Mean over processes. Backward hands each process the gradient as it is: the mean of the processes' gradients, which is
    what they then take, is that of the loss of the whole batch, as it is for a loss that is a mean over images.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of every process's x, with a gradient; x itself where this process works alone."""
    return cast(Tensor, _Mean.apply(x)) if together() else x
