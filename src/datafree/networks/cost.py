"""The cost of a network for one input: multiply-adds and latency."""

import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from datafree.core.modes import evaluating
from datafree.core.spec import InputSpec


def multiply_adds(network: nn.Module, inputs: InputSpec) -> int:
    """Multiply-adds of matrix products and convolutions for one input: half the operations that FlopCounterMode counts."""
    with evaluating(network), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *inputs.shape))
    return int(counter.get_total_flops()) // 2


def latency_ms(network: nn.Module, inputs: InputSpec, repeats: int = 20) -> float:
    """Median time of one input on the CPU, ms, over `repeats` passes after one that is not counted."""
    x = torch.zeros(1, *inputs.shape)
    times = []
    with evaluating(network), torch.no_grad():
        network(x)
        for _ in range(repeats):
            began = time.perf_counter()
            network(x)
            times.append(time.perf_counter() - began)
    return 1000 * sorted(times)[repeats // 2]
