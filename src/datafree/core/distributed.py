"""Several processes that train one student: their ranks, what they exchange, and gradients averaged over them."""

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
    """Rank of this process, from 0, and the number of processes, as torchrun set them; (0, 1) without torchrun."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Inside, the processes that torchrun started form one group: gloo between CPUs, NCCL between GPUs."""
    if launch_rank()[1] == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # DDP imports this module, which keeps the group that exists at its first import in a default argument. Imported before
    # there is a group, it keeps none: a group that is kept after destroy_process_group has threads that still run, and they
    # abort a process that ends.
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def is_distributed() -> bool:
    """Whether several processes form a group, so that each holds a part of every batch."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def world_size() -> int:
    """Number of processes in the group; 1 without a group."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Rank of this process, from 0; 0 without a group."""
    return dist.get_rank() if is_distributed() else 0


def is_main() -> bool:
    """Whether this process is rank 0, which writes the files and prints."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process has reached this call."""
    if is_distributed():
        dist.all_reduce(torch.zeros(1))  # a CPU tensor, so that nothing waits for a GPU


def broadcast(value: T) -> T:
    """The `value` of rank 0, in every process."""
    if not is_distributed():
        return value
    values = [value]
    dist.broadcast_object_list(values, device=torch.device("cpu"))
    return values[0]


def any_rank(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether any process has set it."""
    if not is_distributed():
        return flags
    counts = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(counts)
    return tuple(count > 0 for count in counts.tolist())


def sum_over_ranks(values: dict[str, float]) -> dict[str, float]:
    """For each name, the sum of the processes' values; a process that lacks a name adds 0."""
    if not is_distributed():
        return values
    gathered: list[dict[str, float]] = [{} for _ in range(world_size())]
    dist.all_gather_object(gathered, values)
    names = dict.fromkeys(name for each in gathered for name in each)
    return {name: sum(each.get(name, 0) for each in gathered) for name in names}


class _Mean(torch.autograd.Function):
    """Mean over processes; the backward pass does not divide the gradient by their number.

    The training step averages the processes' gradients afterwards. That average is then the gradient of the loss of the whole
    batch, as it is for a loss that is a mean over images.
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
    """Mean of `x` over the processes, with a gradient; `x` itself without a group."""
    return cast(Tensor, _Mean.apply(x)) if is_distributed() else x


def parallel(module: nn.Module) -> nn.Module:
    """`module` in a `DistributedDataParallel`, for the steps that train it: gradients are averaged over the processes.

    All processes start from the weights of rank 0. `module` itself without a group.
    """
    if not is_distributed():
        return module
    with warnings.catch_warnings():  # later versions of torch rename this argument; earlier ones lack the new name
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(module, broadcast_buffers=False)


def unwrap(module: nn.Module) -> nn.Module:
    """The module inside a `DistributedDataParallel`; any other module unchanged."""
    return module.module if isinstance(module, DistributedDataParallel) else module


def same_weights(module: nn.Module) -> None:
    """Overwrite the weights of `module`, in place, with those of rank 0."""
    if is_distributed():
        for weight in module.parameters():
            dist.broadcast(weight.detach(), src=0)


def mean_buffers(module: nn.Module) -> None:
    """Average each floating-point buffer over the processes, in place.

    The running statistics of batch norms then describe the whole batch, but their variances lack the spread between the
    processes' means.
    """
    if is_distributed():
        for buffer in module.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer /= dist.get_world_size()


def per_process(n: int, name: str) -> int:
    """This process's part of `n` images. Raises `ValueError`, with the flag `name`, if the parts would differ in size."""
    if n % world_size():
        raise ValueError(f"{name} {n} cannot be split evenly over {world_size()} processes; give a multiple of {world_size()}.")
    return n // world_size()
