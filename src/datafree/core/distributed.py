"""Several processes that work as one: which one this is, what they agree on, and what they train together."""

import contextlib
import importlib
import os
import warnings
from collections.abc import Iterator
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


def launch_rank() -> tuple[int, int]:
    """Rank of this process, from 0, and how many there are, as torchrun set them; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Inside, the processes that torchrun started are one group: gloo between CPUs, NCCL between GPUs."""
    if launch_rank()[1] == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # This module keeps the group that stands when it is first imported, for good, as a default argument; DDP imports it. A
    # group that outlives its destruction has threads, and they abort a process that ends while they work.
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def is_distributed() -> bool:
    """Whether a process group stands, so that batches are parts of one batch."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def world_size() -> int:
    """How many processes work together; 1 where there is only this one."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Rank of this process, from 0."""
    return dist.get_rank() if is_distributed() else 0


def is_main() -> bool:
    """Whether this is rank 0, the process that writes and prints."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if is_distributed():
        dist.all_reduce(torch.zeros(1))  # on the CPUs, so that no GPU is waited for


def broadcast(value: T) -> T:
    """The value of rank 0, in every process."""
    if not is_distributed():
        return value
    said = [value]
    dist.broadcast_object_list(said, device=torch.device("cpu"))
    return said[0]


def any_rank(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether it is set in any process."""
    if not is_distributed():
        return flags
    votes = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(votes)
    return tuple(vote > 0 for vote in votes.tolist())


def sum_over_ranks(values: dict[str, float]) -> dict[str, float]:
    """The sum of what the processes have under each name; a name may be missing in some."""
    if not is_distributed():
        return values
    everyone: list[dict[str, float]] = [{} for _ in range(world_size())]
    dist.all_gather_object(everyone, values)
    names = dict.fromkeys(name for each in everyone for name in each)
    return {name: sum(each.get(name, 0) for each in everyone) for name in names}


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
    return cast(Tensor, _Mean.apply(x)) if is_distributed() else x


def parallel(module: nn.Module) -> nn.Module:
    """`module` to be called in the steps that train it: its gradients are means over processes, and so those of the whole
    batch. `module` itself where this process works alone. All begin with the main process's weights.
    """
    if not is_distributed():
        return module
    with warnings.catch_warnings():  # the argument has a new name in late versions, which earlier ones do not know
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(module, broadcast_buffers=False)


def unwrap(module: nn.Module) -> nn.Module:
    """The module inside a `DistributedDataParallel`; any other as it is."""
    return module.module if isinstance(module, DistributedDataParallel) else module


def same_weights(module: nn.Module) -> None:
    """The main process's weights everywhere, in place."""
    if is_distributed():
        for weight in module.parameters():
            dist.broadcast(weight.detach(), src=0)


def mean_buffers(module: nn.Module) -> None:
    """Each buffer of numbers as the mean over processes, in place: what batch norms remember is then of the whole batch, but
    for the spread between the processes' own means.
    """
    if is_distributed():
        for buffer in module.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer /= dist.get_world_size()


def per_process(n: int, name: str) -> int:
    """This process's part of `n` things of a batch. Raises `ValueError` where `n` cannot be dealt out evenly."""
    if n % world_size():
        raise ValueError(
            f"{name} {n} cannot be dealt out to {world_size()} processes evenly; give a multiple of {world_size()}."
        )
    return n // world_size()
