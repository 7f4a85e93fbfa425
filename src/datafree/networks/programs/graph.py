"""A program as plain data: which operator runs on which values, without any code. It is written as one text of JSON."""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from datafree.core.settings import first_line
from datafree.networks.programs.operators import DTYPES, MEMORY_FORMATS

FORMAT = 1
MOST_NODES = 8_000  # the largest networks of timm have some 3,000
MOST_TEXT = 2**24  # bytes of JSON
_MOST_LIST, _MOST_NAME, _MOST_INT = 4096, 400, 2**63
INPUT = 0  # number of the value that the program is given


@dataclass(frozen=True)
class Value:
    """The value of this number: the input is 0, then come what the nodes make, in their order."""

    number: int


@dataclass(frozen=True)
class Weight:
    """The weight or buffer of this name."""

    name: str


@dataclass(frozen=True)
class Batch:
    """A size that is so many times the number of images."""

    times: int


@dataclass(frozen=True)
class Named:
    """A constant of torch by its name: a `dtype`, a `memory_format`, the `layout` of all tensors, the `device` of the input."""

    kind: str
    name: str


Argument = None | bool | int | float | str | Value | Weight | Batch | Named | tuple[Any, ...]


@dataclass(frozen=True)
class Node:
    """One operator on its arguments; `makes` is the number of values that it returns, `path` the module that it belongs to."""

    operator: str
    arguments: tuple[Argument, ...]
    options: tuple[tuple[str, Argument], ...] = ()
    makes: int = 1
    path: str = ""

    def all_arguments(self) -> Iterator[Argument]:
        """Every argument, those in lists one by one."""
        for argument in (*self.arguments, *(value for _, value in self.options)):
            yield from _leaves(argument)

    def changed(self, change: Callable[[Argument], Argument]) -> "Node":
        """A copy in which `change` replaces each argument, those in lists one by one."""
        arguments = tuple(_mapped(argument, change) for argument in self.arguments)
        options = tuple((name, _mapped(value, change)) for name, value in self.options)
        return Node(self.operator, arguments, options, self.makes, self.path)


@dataclass(frozen=True)
class Graph:
    """A program: takes one batch of images, and returns one value, or several (with `names`, as a mapping)."""

    shape: tuple[int, ...]  # of an input, without the batch
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    names: tuple[str, ...] = ()
    buffers: frozenset[str] = field(default_factory=frozenset)  # weights that training does not change

    def weights(self) -> list[str]:
        """Names of the weights that the nodes read, each once, in their order."""
        named = (argument.name for node in self.nodes for argument in node.all_arguments() if isinstance(argument, Weight))
        return list(dict.fromkeys(named))

    def firsts(self) -> list[int]:
        """The number of the first value that each node makes."""
        firsts, made = [], 1
        for node in self.nodes:
            firsts.append(made)
            made += node.makes
        return firsts

    def last_reads(self) -> dict[int, int]:
        """The place of the last node that reads each value, by the value's number; some are only returned."""
        reads = ((each, place) for place, node in enumerate(self.nodes) for each in node.all_arguments())
        return {each.number: place for each, place in reads if isinstance(each, Value)}

    def text(self) -> str:
        """The program as JSON, which `parse` reads."""
        nodes = [
            [node.operator, _written(node.arguments), [[k, _written(v)] for k, v in node.options], node.makes, node.path]
            for node in self.nodes
        ]
        whole = [FORMAT, self.shape, nodes, [value.number for value in self.outputs], self.names, sorted(self.buffers)]
        return json.dumps(whole, separators=(",", ":"))


def parse(text: str) -> Graph:
    """The program in a text that `Graph.text` wrote. Raises `ValueError`, a reason without a full stop, for any other."""
    if len(text) > MOST_TEXT:
        raise ValueError(f"it has {len(text):,} characters, beyond {MOST_TEXT:,}")
    try:
        version, shape, nodes, outputs, names, buffers = json.loads(text)
        if version != FORMAT:
            raise ValueError(f"it is of format {version!r}, and this version reads {FORMAT}")
        graph = Graph(
            tuple(_size(each) for each in shape),
            tuple(_node(*each) for each in nodes),
            tuple(Value(_size(each)) for each in outputs),
            tuple(_name(each) for each in names),
            frozenset(_name(each) for each in buffers),
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(first_line(error)) from error
    check(graph)
    return graph


def check(graph: Graph) -> None:
    """Raise `ValueError`, a reason without a full stop, for a graph that reads what no node before has made."""
    if len(graph.nodes) > MOST_NODES:
        raise ValueError(f"it has {len(graph.nodes):,} operators, beyond {MOST_NODES:,}")
    made = 1
    for node in graph.nodes:
        if any(isinstance(each, Value) and not 0 <= each.number < made for each in node.all_arguments()):
            raise ValueError(f"{node.operator} reads a value that nothing before it makes")
        made += node.makes
    if not graph.outputs or any(not 0 <= each.number < made for each in graph.outputs):
        raise ValueError("it returns no value, or one that nothing makes")
    if graph.names and len(graph.names) != len(graph.outputs):
        raise ValueError("it has other names than outputs")


def _leaves(argument: Argument) -> Iterator[Argument]:
    if isinstance(argument, tuple):
        for each in argument:
            yield from _leaves(each)
    else:
        yield argument


def _mapped(argument: Argument, change: Callable[[Argument], Argument]) -> Argument:
    return tuple(_mapped(each, change) for each in argument) if isinstance(argument, tuple) else change(argument)


_SIGNS: dict[str, Callable[[str], Argument]] = {
    "%": lambda text: Value(_size(int(text))),
    "$": lambda text: Weight(_name(text)),
    "*": lambda text: Batch(_size(int(text))),
    "'": str,
    "!": lambda text: _named(*text.split(":")),
}


def _written(argument: Argument) -> Any:
    match argument:
        case tuple():
            return [_written(each) for each in argument]
        case Value(number):
            return f"%{number}"
        case Weight(name):
            return f"${name}"
        case Batch(times):
            return f"*{times}"
        case Named(kind, name):
            return f"!{kind}:{name}"
        case str():
            return f"'{argument}"
    return argument


def _read(written: Any) -> Argument:
    match written:
        case list():
            if len(written) > _MOST_LIST:
                raise ValueError(f"it has a list of {len(written):,}, beyond {_MOST_LIST:,}")
            return tuple(_read(each) for each in written)
        case str():
            if written[:1] not in _SIGNS or len(written) > _MOST_NAME:
                raise ValueError(f"it has an argument {written[:40]!r}, which is none")
            return _SIGNS[written[:1]](written[1:])
        case bool() | float() | None:
            return written
        case int() if abs(written) <= _MOST_INT:
            return written
    raise ValueError(f"it has an argument {str(written)[:40]!r}, which is none")


def _named(kind: str, name: str) -> Named:
    known: dict[str, Collection[str]] = {
        "dtype": DTYPES,
        "memory_format": MEMORY_FORMATS,
        "layout": ("strided",),
        "device": ("input",),
    }
    if name not in known.get(kind, ()):
        raise ValueError(f"it names a {kind[:40]} {name[:40]!r}, which is not served")
    return Named(kind, name)


def _node(operator: Any, arguments: Any, options: Any, makes: Any, path: Any) -> Node:
    read = _read(arguments)
    if not isinstance(read, tuple):
        raise ValueError(f"it has arguments of {str(operator)[:40]!r} that are no list")
    if _size(makes) > _MOST_LIST:
        raise ValueError(f"it has an operator that makes {makes:,} values, beyond {_MOST_LIST:,}")
    return Node(_name(operator), read, tuple((_name(k), _read(v)) for k, v in options), makes, _name(path))


def _name(text: Any) -> str:
    if not isinstance(text, str) or len(text) > _MOST_NAME:
        raise ValueError(f"it has a name {str(text)[:40]!r}, which is none")
    return text


def _size(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _MOST_INT:
        raise ValueError(f"it has a size {str(number)[:40]!r}, which is none")
    return number
