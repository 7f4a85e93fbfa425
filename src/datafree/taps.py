"""Read inside a network without editing it. A tap exists only inside its `with` block."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


@contextmanager
def layer_inputs(network: nn.Module, *names: str) -> Iterator[dict[str, Tensor]]:
    """The first positional input of each named layer, as of the last forward pass, still part of the graph.

    Raises `ValueError` for a name that the network does not have.
    """
    layers = dict(network.named_modules())
    if missing := [name for name in names if name not in layers]:
        raise ValueError(f"The network has no layer {missing[0]!r}; its layers: {', '.join(list(layers)[1:9])}, ...")
    seen: dict[str, Tensor] = {}

    def remember(name: str) -> object:
        return layers[name].register_forward_pre_hook(lambda _, inputs: seen.__setitem__(name, inputs[0]))

    handles = [remember(name) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]


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


class _Moments(torch.autograd.Function):
    """Mean and biased variance of each channel, by way of the batch norm kernel: on CPUs ten times faster than var_mean,
    and its gradient, (g_mean + 2 g_variance (x - mean)) / n, is one pass over x.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        _, mean, inverse = torch.native_batch_norm(x, None, None, None, None, True, 0.0, _EPSILON)
        ctx.save_for_backward(x, mean)
        return mean, (inverse.reciprocal().square() - _EPSILON).clamp_min(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        count, shape = x.numel() / x.shape[1], [1, -1, *[1] * (x.dim() - 2)]
        slope = 2 * gradients[1] / count
        return torch.addcmul((gradients[0] / count - slope * mean).view(shape), x, slope.view(shape))


_EPSILON = 1e-5  # keeps the inverse deviation of a constant channel finite


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance [channels] of x [B, channels, ...] over batch and positions, fp32."""
    return cast(tuple[Tensor, Tensor], _Moments.apply(x))


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
