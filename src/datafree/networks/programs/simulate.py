"""A program run without memory: the sizes of all its values, found before any number is computed."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datafree.networks.building.limits import FOREIGN, reason_of
from datafree.networks.programs.graph import Argument, Batch, Graph, Named, Node, Value, Weight
from datafree.networks.programs.operators import (
    DTYPES,
    FACTORIES,
    MEMORY_FORMATS,
    Unknown,
    bytes_of,
    makes_several,
    operator_of,
)

MOST_BYTES = 3 * 2**28  # of one value, for the images of a simulation
MOST_IMAGES = 2**16  # for which a network may have been exported


class TooLarge(ValueError):
    """A program makes a value beyond the limits; the message is a sentence's middle."""


def resolved(argument: Argument, value: Callable[[int], Any], weight: Callable[[str], Any], x: Any) -> Any:
    """What an operator gets for `argument`, when `x` is the input: `value` and `weight` look a value and a weight up."""
    match argument:
        case Value(number):
            return value(number)
        case Weight(name):
            return weight(name)
        case Batch(times):
            return times * x.shape[0]
        case Named("dtype", name):
            return DTYPES[name]
        case Named("memory_format", name):
            return MEMORY_FORMATS[name]
        case Named("layout", _):
            return torch.strided
        case Named():
            return x.device
        case tuple():
            return [resolved(each, value, weight, x) for each in argument]
    return argument


def given(node: Node, value: Callable[[int], Any], weight: Callable[[str], Any], x: Any) -> tuple[list[Any], dict[str, Any]]:
    """The arguments and options that a node's operator gets; what makes a tensor makes it where the input is."""
    options = {name: resolved(each, value, weight, x) for name, each in node.options}
    if "device" in options or node.operator.partition(".")[0] in FACTORIES:
        options["device"] = x.device
    return [resolved(each, value, weight, x) for each in node.arguments], options


def functions_of(graph: Graph) -> list[Callable[..., Any]]:
    """The function of each node. Raises `ValueError`, a whole sentence's middle, for an operator that is not served."""
    try:
        return [operator_of(node.operator) for node in graph.nodes]
    except Unknown as error:
        raise ValueError(
            f"uses the operator {str(error)[:80]!r}, which is not among those that are served; give the network's weights and "
            "architecture instead"
        ) from error


def outlines(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights on the meta device, which has sizes and no numbers."""
    return {name: torch.empty_like(value, device="meta") for name, value in weights.items()}


class World:
    """The sizes of a program's values for so many images, node by node."""

    def __init__(self, shape: Sequence[int], images: int, weights: Mapping[str, Tensor]):
        size = 4 * images * math.prod(shape)
        if size > MOST_BYTES or images > MOST_IMAGES:
            raise TooLarge(f"takes inputs of {size / 2**20:,.0f} MiB for {images:,} images; give a network of smaller inputs")
        self.x = torch.empty(images, *shape, device="meta")
        self.values: list[Any] = [self.x]
        self.weights = weights

    def run(self, node: Node, function: Callable[..., Any]) -> Any:
        """Run one node, and keep what it makes. Raises `ValueError`, a sentence's middle, if it fails or is too large."""
        arguments, options = given(node, self.values.__getitem__, self.weights.__getitem__, self.x)
        try:
            made = function(*arguments, **options)
        except FOREIGN as error:  # a hostile program calls an operator in any way
            raise ValueError(
                f"fails in {described(node)} ({reason_of(error)}); make it again, or pass its shape of inputs"
            ) from error
        several = list(made) if makes_several(function) else [made]
        if len(several) < node.makes:
            raise ValueError(f"fails in {described(node)}, which makes {len(several)} values, not {node.makes}; make it again")
        self.values += several[: node.makes]
        for each in several:
            if bytes_of(each) > MOST_BYTES:
                raise TooLarge(
                    f"makes a value of {bytes_of(each) / 2**20:,.0f} MiB in {described(node)}, and the limit is "
                    f"{MOST_BYTES / 2**20:,.0f}; give a network of smaller inputs"
                )
        return made


def described(node: Node) -> str:
    """A node, for a person."""
    return f"{node.operator} of {node.path!r}" if node.path else f"{node.operator}"


def simulate(graph: Graph, weights: Mapping[str, Tensor], images: int = 2) -> list[Any]:
    """Every value of the program for so many images, without numbers. Raises `ValueError`, a sentence's middle."""
    world = World(graph.shape, images, outlines(weights))
    for node, function in zip(graph.nodes, functions_of(graph), strict=True):
        world.run(node, function)
    return world.values
