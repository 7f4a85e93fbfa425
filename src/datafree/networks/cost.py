"""The cost of a network for one input: multiply-adds, memory for a backward pass, latency."""

import time

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from datafree.core.modes import evaluating
from datafree.core.spec import InputSpec

LONGEST = 1.0  # time after which no further pass is measured, seconds


def multiply_adds(network: nn.Module, inputs: InputSpec) -> int:
    """Multiply-adds of matrix products and convolutions for one input: half the operations that FlopCounterMode counts."""
    with evaluating(network), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *inputs.shape))
    return int(counter.get_total_flops()) // 2


def saved_bytes(network: nn.Module, x: Tensor) -> int:
    """Bytes an image that autograd keeps for a backward pass to the input, for x [B, C, H, W]; weights are not counted."""
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        answer = network(x.detach().requires_grad_())
    del answer
    return sum(kept.values()) // len(x)


def latency_ms(network: nn.Module, inputs: InputSpec, repeats: int = 20) -> float:
    """Median time of one input on the CPU, ms, over `repeats` passes, or as many as `LONGEST` takes, after one not counted."""
    x = torch.zeros(1, *inputs.shape)
    times: list[float] = []
    with evaluating(network), torch.no_grad():
        network(x)
        while len(times) < repeats and sum(times) < LONGEST:
            began = time.perf_counter()
            network(x)
            times.append(time.perf_counter() - began)
    return 1000 * sorted(times)[len(times) // 2]
