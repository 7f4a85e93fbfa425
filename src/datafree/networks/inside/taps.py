"""Values read inside a network through hooks, which exist only inside a `with` block."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from datafree.core.distributed import unwrap
from datafree.networks.inside.statistics import moments

Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


@contextmanager
def layer_inputs(network: nn.Module, *names: str) -> Iterator[dict[str, Tensor]]:
    """First positional input of each named layer in the last forward pass, with its gradient graph.

    Raises `ValueError` for a name that the network lacks.
    """
    values: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, layer in _named(network, names):
            read = partial(lambda name, layer, inputs: values.__setitem__(name, inputs[0]), name)
            hooks.enter_context(layer.register_forward_pre_hook(read))
        yield values


@contextmanager
def layer_outputs(network: nn.Module, *names: str) -> Iterator[dict[str, Tensor]]:
    """Output of each named layer in the last forward pass, with its gradient graph. Raises as `layer_inputs` does."""
    values: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, layer in _named(network, names):
            read = partial(lambda name, layer, inputs, output: values.__setitem__(name, output), name)
            hooks.enter_context(layer.register_forward_hook(read))
        yield values


def _named(network: nn.Module, names: tuple[str, ...]) -> list[tuple[str, nn.Module]]:
    layers = dict(unwrap(network).named_modules())
    if missing := [name for name in names if name not in layers]:
        raise ValueError(f"The network has no layer {missing[0]!r}; name one of {', '.join(list(layers)[1:9])}, ...")
    return [(name, layers[name]) for name in names]


@dataclass(frozen=True)
class NormStatistics:
    """Statistics of a batch-norm layer's input in one batch, and its running statistics, each [channels], fp32."""

    mean: Tensor
    variance: Tensor
    running_mean: Tensor
    running_variance: Tensor


def norm_names(network: nn.Module) -> list[str]:
    """Names of the batch norms in `network` that have running statistics."""
    return list(norm_channels(network))


def norm_channels(network: nn.Module) -> dict[str, int]:
    """Number of channels of each batch norm in `network` that has running statistics, by its name."""
    norms = {name: layer for name, layer in network.named_modules() if isinstance(layer, Norm) and layer.track_running_stats}
    return {name: norm.num_features for name, norm in norms.items()}


@contextmanager
def norm_statistics(network: nn.Module, wanted: bool = True) -> Iterator[dict[str, NormStatistics]]:
    """Batch and running statistics of every batch-norm layer of `network` in the last forward pass, by layer name.

    The variance is the biased one, over batch and positions (DeepInversion, arXiv 1912.08795, and its code). Without `wanted`
    there are no hooks, and the mapping stays empty.
    """
    statistics: dict[str, NormStatistics] = {}

    def read(name: str, layer: Norm, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = moments(inputs[0].float())
        assert layer.running_mean is not None
        assert layer.running_var is not None
        statistics[name] = NormStatistics(mean, variance, layer.running_mean, layer.running_var)

    with ExitStack() as hooks:
        for name in norm_names(network) if wanted else ():
            hooks.enter_context(network.get_submodule(name).register_forward_pre_hook(partial(read, name)))
        yield statistics


@dataclass(frozen=True)
class Call:
    """One call of a layer in a forward pass, with its first input and its output."""

    name: str
    layer: nn.Module
    input: Tensor
    output: Tensor


def calls(network: nn.Module, x: Tensor) -> list[Call]:
    """Every call of a leaf layer in one forward pass of `x`, in the order of execution, without gradients."""
    leaves = [(name, layer) for name, layer in network.named_modules() if not any(layer.children())]
    return _record_calls(network, leaves, x)


def _record_calls(network: nn.Module, layers: list[tuple[str, nn.Module]], x: Tensor) -> list[Call]:
    """Each call of one of `layers` that takes and returns a tensor, in the order in which they end."""
    recorded: list[Call] = []

    def record(name: str, layer: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            recorded.append(Call(name, layer, inputs[0], output))

    with ExitStack() as hooks, torch.no_grad():
        for name, layer in layers:
            hooks.enter_context(layer.register_forward_hook(partial(record, name)))
        network(x)
    return recorded


def last_maps(network: nn.Module, x: Tensor) -> tuple[str, int]:
    """Name and channels of the layer that returns the network's last feature maps [B, channels, H, W] for `x`.

    That is the last stage (a layer made of layers) to return maps: a ResNet's layer 4, a WRN's block 3 before its norm and
    ReLU. If no stage returns maps, it is the last single layer that does. Raises `ValueError` if no layer does.
    """
    layers = [(name, layer) for name, layer in network.named_modules() if name]
    maps = [call for call in _record_calls(network, layers, x) if call.output.dim() == 4]
    if not maps:
        raise ValueError(
            "The network has no layer that returns feature maps [B, channels, H, W]; leave the feature term out, or give a "
            "convolutional network."
        )
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
    for call in _record_calls(network, layers, x):
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
    """Inside, `layer` returns `value` for any input."""
    with layer.register_forward_hook(lambda *_: value):
        yield


def first_non_finite(network: nn.Module, x: Tensor) -> str | None:
    """Name of the first leaf layer, in the order of execution, whose output for `x` has a NaN or an infinity; else None."""
    return next((call.name for call in calls(network, x) if not call.output.isfinite().all()), None)
