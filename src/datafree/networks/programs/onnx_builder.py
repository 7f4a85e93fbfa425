"""Building a program from operators that are named one by one, where what depends on constants only is computed at once."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from datafree.networks.building.limits import FOREIGN, reason_of
from datafree.networks.programs.graph import Batch, Graph, Named, Node, Value, Weight, check
from datafree.networks.programs.operators import DTYPES, MOST, bytes_of, makes_several, operator_of
from datafree.networks.programs.simulate import World

MOST_CONSTANT = 2**28  # bytes of a tensor that is computed from constants
Operand = Tensor | Value  # a constant, or what a node makes
_NAMES = {kind: name for name, kind in DTYPES.items()}


class NotServed(ValueError):
    """A network cannot be made a program; the message is the reason."""


class Builder:
    """Collects the nodes of a graph, and knows the sizes of their values for `images` images."""

    def __init__(self, shape: tuple[int, ...], images: int, given: dict[str, Tensor]):
        self.shape, self.images = shape, images
        self.weights: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.world = World(shape, images, {})
        self._names: dict[int, str] = {}
        self._given = {id(value): name for name, value in given.items() if name.strip(".") and ".." not in name}
        self._held: list[Tensor] = []  # so that no other tensor gets the id of one that is named

    def emit(self, operator: str, *arguments: Any, makes: int = 1, **options: Any) -> Any:
        """What an operator makes of operands and plain arguments: an operand, or a list if it makes several."""
        function = operator_of(operator)
        given = (*arguments, *options.values())
        if any(isinstance(each, Value) for argument in given for each in _leaves(argument)):
            node = Node(
                operator, tuple(map(self._kept, arguments)), tuple((k, self._kept(v)) for k, v in options.items()), makes
            )
            self.world.run(node, function)
            self.nodes.append(node)
            made: Any = [Value(number) for number in range(len(self.world.values) - makes, len(self.world.values))]
        else:
            made = _computed(function, arguments, options)
        return made if makes_several(function) else made[0]

    def _is_taken(self, name: str, value: Any, given: Collection[str]) -> bool:
        """Whether another weight than `value` has this name, or will have it."""
        return name in self.weights or (value is None and name in given)

    def spread(self, constant: Tensor) -> Value:
        """A constant [1, ...] for each image, [images, ...]."""
        self.nodes.append(Node("expand.default", (self._kept(constant), (Batch(1), *[-1] * (constant.dim() - 1)))))
        self.world.run(self.nodes[-1], operator_of("expand.default"))
        return Value(len(self.world.values) - 1)

    def sizes(self, operand: Operand) -> tuple[int, ...]:
        """The shape of an operand."""
        return tuple(self._outline(operand).shape)

    def kind(self, operand: Operand) -> torch.dtype:
        """The type of an operand's numbers."""
        return self._outline(operand).dtype

    def for_images(self, sizes: Sequence[int]) -> bool:
        """Whether a constant of these sizes is one for each image, so that one for all of them will do."""
        return len(sizes) > 1 and self.images > 1 and sizes[0] == self.images

    def numbers(self, operand: Operand | None) -> list[Any]:
        """The numbers of a constant, flat. Raises `NotServed` for what depends on the images."""
        if operand is None:
            return []
        if not isinstance(operand, Tensor) or operand.numel() > 4096:
            raise NotServed("it computes a size or an axis from the images")
        return operand.flatten().tolist()

    def named(self, names: tuple[str, ...], **weights: Any) -> list[Any]:
        """The weights of a layer, which are its own: by their keys in it, under the first of `names` that is free."""
        given = self._given.values()
        name = next(
            (each for each in names if not any(self._is_taken(f"{each}.{key}", weights[key], given) for key in weights)), ""
        )
        found = [value.contiguous().clone() if name and isinstance(value, Tensor) else value for value in weights.values()]
        for key, value in zip(weights, found, strict=True):
            if name and isinstance(value, Tensor):
                self._names[id(value)] = f"{name}.{key}"
                self._hold(f"{name}.{key}", value)
        return found

    def graph(self, outputs: list[Operand], names: tuple[str, ...]) -> Graph:
        """What was built. Raises `ValueError` if an output depends on no image."""
        if not all(isinstance(each, Value) for each in outputs):
            raise ValueError("returns what does not depend on its input; give a classifier or segmenter")
        found = tuple(each for each in outputs if isinstance(each, Value))
        kept = frozenset(name for name in self.weights if name.startswith(_CONSTANT) or "running_" in name)
        graph = Graph(self.shape, tuple(self.nodes), found, names if len(found) > 1 else (), kept)
        check(graph)
        return graph

    def _hold(self, name: str, value: Tensor) -> None:
        self.weights[name] = value
        self.world.weights = {**self.world.weights, name: torch.empty_like(value, device="meta")}
        self._held.append(value)

    def _kept(self, argument: Any) -> Any:
        """An argument as nodes have it: constants become weights."""
        if isinstance(argument, list | tuple):
            return tuple(self._kept(each) for each in argument)
        if isinstance(argument, torch.dtype):
            return Named("dtype", _NAMES[argument])
        if isinstance(argument, Tensor):
            if id(argument) not in self._names:
                name = self._given.get(id(argument), "")
                free = name and name not in self.weights and not any(each.startswith(f"{name}.") for each in self.weights)
                self._names[id(argument)] = name if free else f"{_CONSTANT}{len(self._held)}"
                self._hold(self._names[id(argument)], argument)
            return Weight(self._names[id(argument)])
        return argument

    def _outline(self, operand: Operand) -> Tensor:
        found = operand if isinstance(operand, Tensor) else self.world.values[operand.number]
        assert isinstance(found, Tensor)
        return found


_CONSTANT = "constant_"


def full(sizes: list[int], value: Tensor) -> Tensor:
    """A constant of these sizes. Raises `NotServed` if it is large."""
    if any(size < 0 for size in sizes) or math.prod(sizes) * value.element_size() > MOST_CONSTANT:
        raise NotServed(f"it makes a constant of {str(sizes)[:80]}")
    return value.reshape(()).expand(sizes).clone()


def counted(start: Any, end: Any, step: Any) -> Tensor:
    """The numbers from `start` to before `end`. Raises `NotServed` if they are many."""
    if not step or not abs((end - start) / step) * 8 <= MOST_CONSTANT or max(abs(start), abs(end)) > MOST:
        raise NotServed("it makes a long range of numbers")
    return torch.arange(start, end, step)


def _computed(function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> list[Any]:
    """What an operator makes of constants: first its sizes, then its numbers."""
    try:
        outline = function(*(_meta(each) for each in arguments), **{name: _meta(each) for name, each in options.items()})
        if sum(map(bytes_of, _leaves(outline))) > MOST_CONSTANT:
            raise NotServed("it makes a large constant")
        made = function(*arguments, **options)
    except FOREIGN as error:
        raise NotServed(reason_of(error)) from error
    return list(made) if isinstance(made, list | tuple) else [made]


def _meta(argument: Any) -> Any:
    if isinstance(argument, list | tuple):
        return [_meta(each) for each in argument]
    return torch.empty_like(argument, device="meta") if isinstance(argument, Tensor) else argument


def _leaves(argument: Any) -> list[Any]:
    return [leaf for each in argument for leaf in _leaves(each)] if isinstance(argument, list | tuple) else [argument]
