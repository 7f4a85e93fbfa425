"""Read inside a network without editing it. A tap exists only inside its `with` block."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from datafree.moments import moments
from datafree.ranks import bare

Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


@contextmanager
def layer_inputs(network: nn.Module, *names: str) -> Iterator[dict[str, Tensor]]:
    """The first positional input of each named layer, as of the last forward pass, still part of the graph.

    Raises `ValueError` for a name that the network does not have.
    """
    seen: dict[str, Tensor] = {}
    handles = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.__setitem__(name, inputs[0]))
        for name, layer in _named(network, names)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def layer_outputs(network: nn.Module, *names: str) -> Iterator[dict[str, Tensor]]:
    """The output of each named layer, as of the last forward pass, still part of the graph. Raises as `layer_inputs`."""
    seen: dict[str, Tensor] = {}
    handles = [
        layer.register_forward_hook(lambda *call, name=name: seen.__setitem__(name, call[2]))
        for name, layer in _named(network, names)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _named(network: nn.Module, names: tuple[str, ...]) -> list[tuple[str, nn.Module]]:
    layers = dict(bare(network).named_modules())
    if missing := [name for name in names if name not in layers]:
        raise ValueError(f"The network has no layer {missing[0]!r}; its layers: {', '.join(list(layers)[1:9])}, ...")
    return [(name, layers[name]) for name in names]


@dataclass(frozen=True)
class NormStatistics:
    """What a batch-norm layer saw in this batch and what it remembers, each [channels], fp32."""

    mean: Tensor
    variance: Tensor
    running_mean: Tensor
    running_variance: Tensor


def norm_names(network: nn.Module) -> list[str]:
    """Names of the batch norms of `network` that remember statistics."""
    return [name for name, layer in network.named_modules() if isinstance(layer, Norm) and layer.track_running_stats]


@contextmanager
def norm_statistics(network: nn.Module) -> Iterator[dict[str, NormStatistics]]:
    """Batch statistics beside the running ones for every batch-norm layer of `network`, as of the last forward pass.

    The variance is the biased one, over batch and positions (DeepInversion, arXiv 1912.08795, and its code).
    """
    seen: dict[str, NormStatistics] = {}

    def read(name: str, layer: Norm, x: Tensor) -> None:
        mean, variance = moments(x.float())
        assert layer.running_mean is not None
        assert layer.running_var is not None
        seen[name] = NormStatistics(mean, variance, layer.running_mean, layer.running_var)

    handles = [
        network.get_submodule(name).register_forward_pre_hook(lambda layer, inputs, name=name: read(name, layer, inputs[0]))
        for name in norm_names(network)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Call:
    """One layer at work in a forward pass."""

    name: str
    layer: nn.Module
    input: Tensor
    output: Tensor


def calls(network: nn.Module, x: Tensor) -> list[Call]:
    """Every call of a leaf layer in one forward pass of `x`, in the order they run, without gradients."""
    made: list[Call] = []

    def remember(name: str, layer: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            made.append(Call(name, layer, inputs[0], output))

    leaves = [(name, layer) for name, layer in network.named_modules() if not any(layer.children())]
    handles = [
        layer.register_forward_hook(lambda layer, inputs, out, name=name: remember(name, layer, inputs, out))
        for name, layer in leaves
    ]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for handle in handles:
            handle.remove()
    return made


def last_maps(network: nn.Module, x: Tensor) -> tuple[str, int]:
    """Name and channels of what gives the network's last feature maps [B, channels, H, W] for `x`.

    That is the last stage (a layer made of layers) to answer with maps: a ResNet's layer 4, a WRN's block 3 before its norm
    and ReLU. Where no stage does, it is the last single layer. Raises `ValueError` where nothing answers with maps.
    """
    stages: list[tuple[str, int]] = []
    singles: list[tuple[str, int]] = []

    def remember(name: str, layer: nn.Module, answer: object) -> None:
        if isinstance(answer, Tensor) and answer.dim() == 4:
            (stages if any(layer.children()) else singles).append((name, answer.shape[1]))

    handles = [
        layer.register_forward_hook(lambda layer, _, answer, name=name: remember(name, layer, answer))
        for name, layer in network.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for handle in handles:
            handle.remove()
    if not stages and not singles:
        raise ValueError("The network has no layer that answers with feature maps [B, channels, H, W].")
    return (stages or singles)[-1]


@contextmanager
def output_replaced(layer: nn.Module, value: Tensor) -> Iterator[None]:
    """Inside, `layer` answers with `value`, whatever it is given."""
    handle = layer.register_forward_hook(lambda *_: value)
    try:
        yield
    finally:
        handle.remove()


def first_non_finite(network: nn.Module, x: Tensor) -> str | None:
    """Name of the first leaf layer whose output for `x` holds a NaN or an infinity, in the order they run; else None."""
    return next((call.name for call in calls(network, x) if not call.output.isfinite().all()), None)
