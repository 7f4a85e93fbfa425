"""Eval mode, frozen weights and kept random numbers as context managers, and the layout in which networks run fastest."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


def fastest_layout(network: nn.Module) -> nn.Module:
    """`network` with channels-last weights, in place: up to twice as fast, outputs equal up to rounding."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Inside, `network` is in eval mode; afterwards each layer has its earlier mode again."""
    modes = [(layer, layer.training) for layer in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


@contextlib.contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside, gradients flow through `network` but not to its weights."""
    flags = [(weight, weight.requires_grad) for weight in network.parameters()]
    network.requires_grad_(False)
    try:
        yield
    finally:
        for weight, flag in flags:
            weight.requires_grad_(flag)


def keeping_random(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Inside, global random numbers may be drawn; afterwards those of the CPU and of `device` are as before."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])
