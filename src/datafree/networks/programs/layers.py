"""The layers of torch in a program: convolutions, norms and linear layers under their own names, for all that reads layers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datafree.networks.building.limits import FOREIGN
from datafree.networks.programs.graph import Argument, Graph, Node, Weight

_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Layer:
    """A layer that does what one node does: its name in the network, and its weights by their names in the layer."""

    name: str
    module: nn.Module
    weights: Mapping[str, Argument]


def layers_of(graph: Graph, weights: Mapping[str, Tensor], values: list[Any]) -> dict[int, Layer]:
    """The layer of each node that has one, by the node's place; `values` are those of a simulation.

    Nodes that share all weights and settings share a layer. A node has none if its weights are not named as a layer of torch
    names them, or if another one with other settings has taken the name.
    """
    found: dict[int, Layer] = {}
    taken: dict[str, Layer] = {}
    read = {*graph.last_reads(), *(value.number for value in graph.outputs)}
    for place, (node, number) in enumerate(zip(graph.nodes, graph.firsts(), strict=True)):
        if any(more in read for more in range(number + 1, number + node.makes)):
            continue  # a norm that also gives its statistics
        layer = _layer_of(node, weights, values)
        if layer is None:
            continue
        first = taken.setdefault(layer.name, layer)
        if repr(first.module) == repr(layer.module) and first.weights == layer.weights:
            found[place] = first
    return found


def _layer_of(node: Node, weights: Mapping[str, Tensor], values: list[Any]) -> Layer | None:
    make = _MAKERS.get(node.operator)
    if make is None:
        return None
    sizes = {name: weights[name].shape for name in (each.name for each in node.all_arguments() if isinstance(each, Weight))}
    try:
        with torch.device("meta"):
            made = make(sizes, values, *node.arguments, **dict(node.options))
    except FOREIGN:  # arguments of other forms than a layer has, with which the operator itself may run
        return None
    if made is None:
        return None
    module, used = made
    names = {each.name.rpartition(".")[0] for each in used.values() if isinstance(each, Weight)}
    named = all(each is None or (isinstance(each, Weight) and each.name.endswith(f".{key}")) for key, each in used.items())
    if not named or len(names) != 1 or "" in names:
        return None
    name, kept = names.pop(), {key: each for key, each in used.items() if each is not None}
    if any(
        f"{name}.{key}" in weights and key not in kept for key in (*module._parameters, *module._buffers) if key != _COUNTER
    ):
        return None  # another weight of that name would become one of the layer's
    return Layer(name, module.eval(), kept)


def _rank(values: list[Any], x: Any) -> int:
    return int(values[x.number].dim())


def _convolution(
    sizes: Any, values: Any, x: Any, weight: Any, bias: Any = None, stride: Any = (1, 1), padding: Any = (0, 0),
    dilation: Any = (1, 1), groups: Any = 1,
) -> tuple[nn.Module, dict[str, Argument]] | None:  # fmt: skip
    out, inside, *kernel = sizes[weight.name]
    if len(kernel) != 2 or _rank(values, x) != 4:
        return None
    steps, edges, gaps = (
        each * 2 if isinstance(each, tuple) and len(each) == 1 else each for each in (stride, padding, dilation)
    )
    module = nn.Conv2d(inside * groups, out, (kernel[0], kernel[1]), steps, edges, gaps, groups, bias is not None)
    return module, {"weight": weight, "bias": bias}


def _any_convolution(
    sizes: Any, values: Any, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: Any,
    output_padding: Any, groups: Any, *backends: Any,
) -> tuple[nn.Module, dict[str, Argument]] | None:  # fmt: skip
    if transposed or any(output_padding):
        return None
    return _convolution(sizes, values, x, weight, bias, stride, padding, dilation, groups)


def _batch_norm(
    sizes: Any, values: Any, x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: Any = False,
    momentum: Any = 0.1, epsilon: Any = 1e-5, fast: Any = False,
) -> tuple[nn.Module, dict[str, Argument]] | None:  # fmt: skip
    kinds: dict[int, type[nn.Module]] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    if mean is None or variance is None or (weight is None) != (bias is None):
        return None
    (channels,) = sizes[mean.name]
    module = kinds[_rank(values, x)](channels, eps=epsilon, momentum=momentum, affine=weight is not None)
    return module, {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}


def _native_batch_norm(
    sizes: Any, values: Any, x: Any, weight: Any, bias: Any, mean: Any, variance: Any, momentum: Any, epsilon: Any
) -> tuple[nn.Module, dict[str, Argument]] | None:
    return _batch_norm(sizes, values, x, weight, bias, mean, variance, False, momentum, epsilon)


def _linear(sizes: Any, values: Any, x: Any, weight: Any, bias: Any = None) -> tuple[nn.Module, dict[str, Argument]] | None:
    out, inside = sizes[weight.name]
    return nn.Linear(inside, out, bias=bias is not None), {"weight": weight, "bias": bias}


def _layer_norm(
    sizes: Any, values: Any, x: Any, shape: Any, weight: Any = None, bias: Any = None, epsilon: Any = 1e-5, fast: Any = True
) -> tuple[nn.Module, dict[str, Argument]] | None:
    return nn.LayerNorm(shape, eps=epsilon, elementwise_affine=weight is not None, bias=bias is not None), {
        "weight": weight,
        "bias": bias,
    }


def _group_norm(
    sizes: Any, values: Any, x: Any, groups: Any, weight: Any = None, bias: Any = None, epsilon: Any = 1e-5, fast: Any = True
) -> tuple[nn.Module, dict[str, Argument]] | None:
    if (weight is None) != (bias is None) or weight is None:
        return None
    return nn.GroupNorm(groups, sizes[weight.name][0], eps=epsilon), {"weight": weight, "bias": bias}


_MAKERS: dict[str, Callable[..., tuple[nn.Module, dict[str, Argument]] | None]] = {
    "conv2d.default": _convolution,
    "conv2d.padding": _convolution,
    "convolution.default": _any_convolution,
    "_convolution.default": _any_convolution,
    "batch_norm.default": _batch_norm,
    "_native_batch_norm_legit_no_training.default": _native_batch_norm,
    "linear.default": _linear,
    "layer_norm.default": _layer_norm,
    "group_norm.default": _group_norm,
}
