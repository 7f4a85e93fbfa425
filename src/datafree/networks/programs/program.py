"""A network that runs a graph of operators; it has the layers of torch that the graph names, and no code of its own."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datafree.networks.building.limits import FOREIGN, reason_of
from datafree.networks.programs.graph import INPUT, Graph, Node
from datafree.networks.programs.layers import Layer, layers_of
from datafree.networks.programs.operators import makes_several
from datafree.networks.programs.simulate import functions_of, given, resolved, simulate

_COUNTER = "num_batches_tracked"


class Stage(nn.Module):
    """Layers of one part of a network. A program calls it with what that part returns, so that a hook on it sees that."""

    def forward(self, x: Any) -> Any:
        return x


@dataclass(frozen=True)
class _Step:
    node: Node
    function: Callable[..., Any]
    layer: str  # name of the layer that does it; empty: the function does
    first: int  # number of the first value that it makes
    several: bool  # the function returns them in a list
    stages: tuple[str, ...]  # that end here, the inner ones first
    dead: tuple[int, ...]  # values that nobody reads later


class _Steps(tuple[_Step, ...]):
    """Steps, which nothing changes, so that copies of a network share them."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Steps":
        return self


class Program(Stage):
    """A network from a `Graph` and its weights, always in eval mode: takes images [B, C, H, W], gives what the graph gives.

    Layers and weights have the names that they have in the graph. Raises `ValueError`, a sentence's middle, if a weight is
    missing or the graph fails for images of its own shape.
    """

    def __init__(self, graph: Graph, weights: Mapping[str, Tensor]):
        super().__init__()
        missing = [name for name in graph.weights() if name not in weights]
        if missing:
            raise ValueError(f"lacks {len(missing)} of its weights, {missing[0]!r} first; make it again")
        self._graph = graph
        functions = functions_of(graph)
        used = {name: weights[name] for name in graph.weights()}
        layers = layers_of(graph, used, simulate(graph, used))
        try:
            self._place(layers, weights, graph.buffers)
        except FOREIGN as error:  # a hostile name, as that of a method of every module
            raise ValueError(f"has a weight with a name that none can have ({reason_of(error)}); rename it") from error
        names = {place: layer.name for place, layer in layers.items()}
        self._steps = _Steps(_steps(graph, functions, names, {name for name, _ in self.named_modules()}))
        self.eval()

    @property
    def graph(self) -> Graph:
        """What it runs."""
        return self._graph

    def _place(self, layers: dict[int, Layer], weights: Mapping[str, Tensor], buffers: Iterable[str]) -> None:
        """Give each layer its weights, and both their places, in the order of `weights`."""
        owners = {layer.name: layer for layer in layers.values()}
        read = set(self._graph.weights())
        for name, value in weights.items():
            owner, _, key = name.rpartition(".")
            if owner in owners and key in (*owners[owner].weights, _COUNTER):
                layer = owners[owner].module
                if owner not in dict(self.named_modules()):
                    self._holder(owner.rpartition(".")[0]).add_module(owner.rpartition(".")[2], layer)
                _set(layer, key, value, key in layer._buffers)
            elif name in read:
                _set(self._holder(owner), key, value, name in buffers or not value.is_floating_point())
        for each in owners.values():
            counter = each.module._buffers.get(_COUNTER)
            if counter is not None and counter.is_meta:  # the file has none
                each.module.register_buffer(_COUNTER, torch.zeros_like(counter, device="cpu"))

    def _holder(self, path: str) -> nn.Module:
        """The module of this name, made of empty stages where there is none."""
        module: nn.Module = self
        for part in path.split(".") if path else ():
            if part not in module._modules:
                module.add_module(part, Stage())
            module = module.get_submodule(part)
        return module

    def _module(self, path: str) -> Any:
        module: Any = self
        for part in path.split(".") if path else ():
            module = module._modules[part]
        return module

    def _weight(self, name: str) -> Any:
        owner, _, key = name.rpartition(".")
        return getattr(self._module(owner), key)

    def _made(self, step: "_Step", values: dict[int, Any], x: Tensor) -> Any:
        """What a step makes; a function of its own, since its arguments must not outlive it."""
        if step.layer:
            made = self._module(step.layer)(resolved(step.node.arguments[0], values.__getitem__, self._weight, x))
        else:
            arguments, options = given(step.node, values.__getitem__, self._weight, x)
            made = step.function(*arguments, **options)
        for stage in step.stages:
            made = self._module(stage)(made)
        return made

    def forward(self, x: Tensor) -> Any:
        values: dict[int, Any] = {INPUT: x}
        for step in self._steps:
            made = self._made(step, values, x)
            if step.several and not step.layer:
                values |= {step.first + place: made[place] for place in range(step.node.makes)}
            else:
                values[step.first] = made
            del made
            for number in step.dead:
                values.pop(number, None)
        found = [values[each.number] for each in self._graph.outputs]
        if self._graph.names:
            return dict(zip(self._graph.names, found, strict=True))
        return found[0] if len(found) == 1 else tuple(found)

    def train(self, mode: bool = True) -> "Program":
        super().train(False)
        return self


def _set(module: nn.Module, key: str, value: Tensor, buffer: bool) -> None:
    if buffer:
        module.register_buffer(key, value)
    else:
        module.register_parameter(key, nn.Parameter(value, requires_grad=value.is_floating_point()))


def _steps(graph: Graph, functions: list[Callable[..., Any]], layers: dict[int, str], modules: set[str]) -> Iterable[_Step]:
    firsts, last = graph.firsts(), graph.last_reads()
    dead: dict[int, list[int]] = defaultdict(list)
    for number, place in last.items():
        dead[place].append(number)
    ends = _stage_ends(graph, modules - set(layers.values()) - {""})
    for place, (node, function) in enumerate(zip(graph.nodes, functions, strict=True)):
        unread = [number for number in range(firsts[place], firsts[place] + node.makes) if number not in last]
        kept = {value.number for value in graph.outputs}
        gone = tuple(number for number in (*dead[place], *unread) if number not in kept)
        several = makes_several(function)
        yield _Step(node, function, layers.get(place, ""), firsts[place], several, tuple(ends[place]), gone)


def _stage_ends(graph: Graph, modules: set[str]) -> dict[int, list[str]]:
    """The names of the parts of the network that end with a node, by the node's place, inner parts first.

    A part ends there if its nodes follow each other, and only what the last one makes is read outside.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, node in enumerate(graph.nodes):
        parts = node.path.split(".")
        for depth in range(1, len(parts) + 1):
            if (path := ".".join(parts[:depth])) in modules:
                places[path].append(place)
    firsts, last = graph.firsts(), graph.last_reads()
    returned = {value.number for value in graph.outputs}
    ends: dict[int, list[str]] = defaultdict(list)
    for path, found in sorted(places.items(), key=lambda each: -each[0].count(".")):
        begin, end = found[0], found[-1]
        if len(found) != end - begin + 1 or graph.nodes[end].makes != 1:
            continue
        inside = range(firsts[begin], firsts[end])
        if not any(last.get(number, -1) > end or number in returned for number in inside):
            ends[end].append(path)
    return ends
