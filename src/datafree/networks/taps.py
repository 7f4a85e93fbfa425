"""Read inside a network without editing it. A tap exists only inside its `with` block."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from datafree.core.distributed import unwrap
from datafree.networks.statistics import moments

Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


@contextmanager
def layer_inputs(network: nn.Module, *names: str) -> Iterator[dict[str, Tensor]]:
    """The first positional input of each named layer, as of the last forward pass, still part of the graph.

    Raises `ValueError` for a name that the network does not have.
    """
    seen: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, layer in _named(network, names):
            read = partial(lambda name, layer, inputs: seen.__setitem__(name, inputs[0]), name)
            hooks.enter_context(layer.register_forward_pre_hook(read))
        yield seen


@contextmanager
def layer_outputs(network: nn.Module, *names: str) -> Iterator[dict[str, Tensor]]:
    """The output of each named layer, as of the last forward pass, still part of the graph. Raises as `layer_inputs`."""
    seen: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, layer in _named(network, names):
            read = partial(lambda name, layer, inputs, output: seen.__setitem__(name, output), name)
            hooks.enter_context(layer.register_forward_hook(read))
        yield seen


def _named(network: nn.Module, names: tuple[str, ...]) -> list[tuple[str, nn.Module]]:
    layers = dict(unwrap(network).named_modules())
    if missing := [name for name in names if name not in layers]:
        raise ValueError(f"The network has no layer {missing[0]!r}; its layers: {', '.join(list(layers)[1:9])}, ...")
    return [(name, layers[name]) for name in names]


@dataclass(frozen=True)
class NormStatistics:
    """What a batch-norm layer saw in this batch and its running statistics, each [channels], fp32."""

    mean: Tensor
    variance: Tensor
    running_mean: Tensor
    running_variance: Tensor


def norm_names(network: nn.Module) -> list[str]:
    """Names of the batch norms of `network` that keep running statistics."""
    return [name for name, layer in network.named_modules() if isinstance(layer, Norm) and layer.track_running_stats]


@contextmanager
def norm_statistics(network: nn.Module, wanted: bool = True) -> Iterator[dict[str, NormStatistics]]:
    """Batch statistics beside the running ones for every batch-norm layer of `network`, as of the last forward pass.

    The variance is the biased one, over batch and positions (DeepInversion, arXiv 1912.08795, and its code). Nothing is read
    where nothing is `wanted`.
    """
    seen: dict[str, NormStatistics] = {}

    def read(name: str, layer: Norm, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = moments(inputs[0].float())
        assert layer.running_mean is not None
        assert layer.running_var is not None
        seen[name] = NormStatistics(mean, variance, layer.running_mean, layer.running_var)

    with ExitStack() as hooks:
        for name in norm_names(network) if wanted else ():
            hooks.enter_context(network.get_submodule(name).register_forward_pre_hook(partial(read, name)))
        yield seen


@dataclass(frozen=True)
class Call:
    """One layer at work in a forward pass."""

    name: str
    layer: nn.Module
    input: Tensor
    output: Tensor


def calls(network: nn.Module, x: Tensor) -> list[Call]:
    """Every call of a leaf layer in one forward pass of `x`, in the order they run, without gradients."""
    leaves = [(name, layer) for name, layer in network.named_modules() if not any(layer.children())]
    return _calls(network, leaves, x)


def _calls(network: nn.Module, layers: list[tuple[str, nn.Module]], x: Tensor) -> list[Call]:
    """Each call of one of `layers` that takes a tensor and answers with one, in the order they end."""
    made: list[Call] = []

    def remember(name: str, layer: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            made.append(Call(name, layer, inputs[0], output))

    with ExitStack() as hooks, torch.no_grad():
        for name, layer in layers:
            hooks.enter_context(layer.register_forward_hook(partial(remember, name)))
        network(x)
    return made


def last_maps(network: nn.Module, x: Tensor) -> tuple[str, int]:
    """Name and channels of what gives the network's last feature maps [B, channels, H, W] for `x`.

    That is the last stage (a layer made of layers) to answer with maps: a ResNet's layer 4, a WRN's block 3 before its norm
    and ReLU. Where no stage does, it is the last single layer. Raises `ValueError` where nothing answers with maps.
    """
    layers = [(name, layer) for name, layer in network.named_modules() if name]
    maps = [call for call in _calls(network, layers, x) if call.output.dim() == 4]
    if not maps:
        raise ValueError("The network has no layer that answers with feature maps [B, channels, H, W].")
    stages = [call for call in maps if any(call.layer.children())]
    last = (stages or maps)[-1]
    return last.name, last.output.shape[1]


def stage_maps(network: nn.Module, x: Tensor) -> dict[tuple[int, int], str]:
    """What gives the network's last feature maps of each size (height, width) for `x`, by name.

    That is the last stage (a layer made of layers) that answers in that size: the layers 1 to 4 of a ResNet, the three blocks
    of a WRN. Where no stage does, it is the last single layer. Maps of one position are left out.
    """
    layers = [(name, layer) for name, layer in network.named_modules() if name]
    last: dict[str, Call] = {}  # what `layer_outputs` sees of a layer that is called several times
    for call in _calls(network, layers, x):
        last.pop(call.name, None)
        last[call.name] = call
    maps = [call for call in last.values() if call.output.dim() == 4]
    found: dict[tuple[int, int], str] = {}
    for stages in (False, True):
        for call in maps:
            if any(call.layer.children()) == stages:
                found[call.output.shape[2], call.output.shape[3]] = call.name
    found.pop((1, 1), None)
    return found


@contextmanager
def output_replaced(layer: nn.Module, value: Tensor) -> Iterator[None]:
    """Inside, `layer` answers with `value`, whatever it is given."""
    with layer.register_forward_hook(lambda *_: value):
        yield


def first_non_finite(network: nn.Module, x: Tensor) -> str | None:
    """Name of the first leaf layer whose output for `x` holds a NaN or an infinity, in the order they run; else None."""
    return next((call.name for call in calls(network, x) if not call.output.isfinite().all()), None)
