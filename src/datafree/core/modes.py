"""What a network is put into: eval mode or no gradients for a while, the fastest layout for good."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


def fastest_layout(network: nn.Module) -> nn.Module:
    """`network` with channels-last weights, in place: up to twice as fast, the same numbers up to rounding."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """`network` in eval mode inside; every layer's own mode is restored."""
    modes = [(layer, layer.training) for layer in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


@contextlib.contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Gradients pass through `network` inside, but its weights get none."""
    flags = [(weight, weight.requires_grad) for weight in network.parameters()]
    network.requires_grad_(False)
    try:
        yield
    finally:
        for weight, flag in flags:
            weight.requires_grad_(flag)
