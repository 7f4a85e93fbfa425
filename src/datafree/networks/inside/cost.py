"""The cost of a network for one input: multiply-adds, memory for a backward pass, latency."""

import copy
import math
import time

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from datafree.core.modes import evaluating, frozen, keeping_random
from datafree.core.runtime import PRECISIONS, Precision, autocast
from datafree.core.spec import InputSpec
from datafree.networks.outputs import flattened

PASSES = 4  # of which the first is not counted
PROBED = 2**22  # values of all images of a probe, so that one of large inputs takes seconds
FASTER = 1.2  # times as fast as fp32 that bf16 has to be on a CPU to be taken
TIMED = 32  # images by which that is measured, of small inputs
LONGEST = 1.0  # time after which no further pass is measured, seconds


def multiply_adds(network: nn.Module, inputs: InputSpec) -> int:
    """Multiply-adds of matrix products and convolutions for one input: half the operations that FlopCounterMode counts.

    A network on the meta device is counted without memory.
    """
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    with evaluating(network), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *inputs.shape, device=device))
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


def seconds_by_precision(teacher: nn.Module, student: nn.Module, x: Tensor) -> dict[Precision, float]:
    """Wall time, seconds, of a round's parts on x [B, C, H, W] in fp32 and in bf16, the least of a few: the teacher's pass,
    forward and back to the input, and the student's step.

    A precision in which a network fails takes for ever. Nothing of the student changes, and no random number is used up.
    """
    copied = copy.deepcopy(student).train()

    def part(precision: Precision) -> float:
        began = time.perf_counter()
        seen = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        try:
            with autocast(precision, x.device):
                answers = flattened(teacher(seen)), flattened(copied(x))
            for answer in answers:
                if answer.requires_grad:
                    answer.square().mean().backward()  # type: ignore[no-untyped-call]
        except RuntimeError:  # an operation that has no such precision
            return math.inf
        return time.perf_counter() - began

    with evaluating(teacher), frozen(teacher), keeping_random(x.device):
        runs = [{precision: part(precision) for precision in PRECISIONS} for _ in range(PASSES)]
    return {precision: min(run[precision] for run in runs[1:]) for precision in PRECISIONS}


def faster_precision(teacher: nn.Module, student: nn.Module, inputs: InputSpec) -> tuple[Precision, float]:
    """The precision to compute in on a CPU, and how many times as fast as fp32 it is, by `seconds_by_precision`."""
    few = max(2, min(TIMED, PROBED // inputs.values))
    x = torch.randn(few, *inputs.shape, generator=torch.Generator().manual_seed(0))
    seconds = seconds_by_precision(teacher, student, x)
    faster = seconds["fp32"] / seconds["bf16"]
    return ("bf16", faster) if faster >= FASTER else ("fp32", 1.0)


def latency_ms(network: nn.Module, inputs: InputSpec, repeats: int = 20, batch: int = 1) -> float:
    """Median time of a batch on the CPU, ms, over `repeats` passes, or as many as `LONGEST` takes, after one not counted.

    A first pass that takes longer than that is the only one.
    """
    x = torch.zeros(batch, *inputs.shape)
    times: list[float] = []
    with evaluating(network), torch.no_grad():
        began = time.perf_counter()
        network(x)
        first = time.perf_counter() - began
        if first > LONGEST:
            return 1000 * first
        while len(times) < repeats and sum(times) < LONGEST:
            began = time.perf_counter()
            network(x)
            times.append(time.perf_counter() - began)
    return 1000 * sorted(times)[len(times) // 2]
