"""A program that was exported for one number of images, made to take any: sizes that came from that number follow it."""

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from datafree.networks.building.limits import FOREIGN
from datafree.networks.programs.graph import Argument, Batch, Graph, Node, Value, Weight
from datafree.networks.programs.operators import operator_of
from datafree.networks.programs.simulate import World, functions_of, outlines

Shape = tuple[int, ...]
_VIEWS = ("view", "reshape", "_unsafe_view")
_SPREAD = ("expand", "broadcast_to", "repeat")
_NEW = ("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full")
_JOINS = ("cat", "concat", "concatenate")
ADVICE = (
    "export it with a batch of any size, torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim('batch')},))"
)


def freed(graph: Graph, weights: Mapping[str, Tensor], images: int) -> Graph:
    """`graph`, exported for `images` images, for any number of them.

    It is run without numbers for that many and for another number, side by side: where the sizes that an operator asks for
    hold only for the first, the one that the images are in becomes a multiple of their number. Raises `ValueError`, a
    sentence's middle, if that does not lead through.
    """
    known = outlines({name: weights[name] for name in graph.weights() if name in weights})
    return _Freeing(graph, known, images).run()


class _Freeing:
    """Two simulations side by side, for `images` and for another number, and the nodes as they have to be for both."""

    def __init__(self, graph: Graph, weights: Mapping[str, Tensor], images: int):
        self.graph, self.images, self.other = graph, images, 3 if images == 1 else 2 * images
        self.one, self.two = World(graph.shape, images, weights), World(graph.shape, self.other, weights)
        self.nodes: list[Node] = []
        self.numbers: list[int] = [0]  # of each value of `graph`, in the new one
        self.outer: dict[int, int] = {}  # where images are not first in their dimension: values of it that are before them

    def run(self) -> Graph:
        for node, function in zip(self.graph.nodes, functions_of(self.graph), strict=True):
            moved = node.changed(self._moved)
            base = node.operator.partition(".")[0].removesuffix("_")
            if base in _JOINS:
                moved = self._spread_parts(moved)
            with contextlib.suppress(*FOREIGN):  # a hostile program gives any arguments, with which the operator then fails
                moved = self._following(base, moved)
            self._add(moved, function)
            made = len(self.one.values) - node.makes
            self.numbers += range(made, made + node.makes)
        outputs = tuple(Value(self.numbers[each.number]) for each in self.graph.outputs)
        if any(self.two.values[each.number].shape[:1] != (self.other,) for each in outputs):
            raise ValueError(f"was exported for batches of {self.images}, and serves no others; {ADVICE}")
        return Graph(self.graph.shape, tuple(self.nodes), outputs, self.graph.names, self.graph.buffers)

    def _moved(self, argument: Argument) -> Argument:
        return Value(self.numbers[argument.number]) if isinstance(argument, Value) else argument

    def _add(self, node: Node, function: Callable[..., Any]) -> None:
        self.one.run(node, function)
        try:
            self.two.run(node, function)
        except ValueError as error:
            raise ValueError(
                f"was exported for batches of {self.images}, and with {self.other} it {error}; {ADVICE}"
            ) from error
        self.nodes.append(node)
        self._follow_places(node)

    def _follow_places(self, node: Node) -> None:
        """Note where the images are in what `node` made, if they are not first in their dimension."""
        sources = [each.number for each in node.all_arguments() if isinstance(each, Value) and each.number in self.outer]
        for number in range(len(self.one.values) - node.makes, len(self.one.values)):
            before, after = self._shapes(Value(number))
            for source in sources if before != after else ():
                inside, _ = self._shapes(Value(source))
                if inside[_where(*self._shapes(Value(source)))] == before[_where(before, after)]:
                    self.outer.setdefault(number, self.outer[source])

    def _following(self, base: str, node: Node) -> Node:
        """`node` with sizes that follow the number of images, if it has any."""
        if base in _NEW:
            place = 1 if base.startswith("new_") else 0
            return self._replaced(node, place, 0) if self.images > 1 and self._size(node, place, 0) == self.images else node
        if base not in (*_VIEWS, *_SPREAD, "unflatten"):
            return node
        before, after = self._shapes(node.arguments[0])
        sizes = _sizes(node, 2 if base == "unflatten" else 1)
        if base in _SPREAD:
            return self._spread(base, node, before, after, sizes)
        if before == after:
            return node
        if base in _VIEWS:
            source = node.arguments[0]
            assert isinstance(source, Value)
            outer = math.prod(before[: _where(before, after)]) * self.outer.get(source.number, 1)
            place, within = _place(outer, _whole(before, sizes))
            if within > 1:
                self.outer[len(self.one.values)] = within
            return node if sizes[place] == -1 else self._replaced(node, 1, place)
        dim = node.arguments[1]
        assert isinstance(dim, int)
        return self._replaced(node, 2, 0) if before[dim] != after[dim] and sizes[0] != -1 else node

    def _spread(self, base: str, node: Node, before: Shape, after: Shape, sizes: tuple[Any, ...]) -> Node:
        if before == after:  # no images in it: it is to be as many times as there are
            first = before[0] if len(sizes) == len(before) else 1
            return self._replaced(node, 1, 0) if sizes[0] == self.images and first == 1 else node
        place = _where(before, after) + len(sizes) - len(before)
        return self._replaced(node, 1, place) if base != "repeat" and sizes[place] == before[_where(before, after)] else node

    def _replaced(self, node: Node, argument: int, place: int) -> Node:
        sizes = list(_sizes(node, argument))
        if not isinstance(sizes[place], int) or sizes[place] % self.images:
            return node
        sizes[place] = Batch(sizes[place] // self.images)
        arguments = (*node.arguments[:argument], tuple(sizes), *node.arguments[argument + 1 :])
        return Node(node.operator, arguments, node.options, node.makes, node.path)

    def _size(self, node: Node, argument: int, place: int) -> Argument:
        sizes = _sizes(node, argument)
        return sizes[place] if len(sizes) > place else None

    def _spread_parts(self, node: Node) -> Node:
        """A `cat` of parts of which one has no images, as a class token for one image: that part is expanded to all."""
        parts, dim = node.arguments[0], node.arguments[1] if len(node.arguments) > 1 else 0
        if not isinstance(parts, tuple) or dim == 0:
            return node
        shapes = [self._shapes(part)[1] for part in parts]
        found = []
        for part, shape in zip(parts, shapes, strict=True):
            if shape[:1] == (1,) and any(other[:1] == (self.other,) for other in shapes):
                spread = Node("expand.default", (part, (Batch(1), *[-1] * (len(shape) - 1))), path=node.path)
                self._add(spread, operator_of(spread.operator))
                found.append(Value(len(self.one.values) - 1))
            else:
                found.append(part)
        return Node(node.operator, (tuple(found), *node.arguments[1:]), node.options, node.makes, node.path)

    def _shapes(self, argument: Argument) -> tuple[Shape, Shape]:
        """The shape of a value or a weight in both simulations."""
        if isinstance(argument, Value):
            return tuple(self.one.values[argument.number].shape), tuple(self.two.values[argument.number].shape)
        assert isinstance(argument, Weight)
        return tuple(self.one.weights[argument.name].shape), tuple(self.one.weights[argument.name].shape)


def _sizes(node: Node, argument: int) -> tuple[Any, ...]:
    found = node.arguments[argument] if len(node.arguments) > argument else ()
    return found if isinstance(found, tuple) else ()


def _where(before: Shape, after: Shape) -> int:
    """The dimension in which two shapes differ."""
    return next(i for i, (one, two) in enumerate(zip(before, after, strict=True)) if one != two)


def _whole(before: Shape, sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """`sizes` of a view, with the one that is left open filled in."""
    known = -math.prod(sizes)
    return tuple(math.prod(before) // known if size == -1 and known > 0 else size for size in sizes)


def _place(outer: int, sizes: tuple[int, ...]) -> tuple[int, int]:
    """Where the images are in a view of `sizes`, if `outer` values are before them, and how many of these that dimension has.

    Where they can be last in one dimension or first in the next, they are last in the rows of a matrix, and else first.
    """
    count = 1
    for place, size in enumerate(sizes):
        rows = len(sizes) == 2 and place == 0 and size == outer
        if count == outer or count * size > outer or rows:
            return place, outer // count
        count *= size
    return len(sizes) - 1, 1
