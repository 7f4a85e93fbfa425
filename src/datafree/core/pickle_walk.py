"""A walk through a pickle that runs nothing: which names it imports, what it calls, and what it makes."""

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from dataclasses import dataclass, field
from typing import IO, Any

from datafree.core.stand_ins import Kind

_MOST_TEXT, _MOST_LINE = 2**24, 2**12  # bytes of a text, and of a name
_QUANTISED = "torch._utils._rebuild_qtensor"
# torch's reader would also call others, as bytearray(2**40), torch.Tensor(2**40), or by a name that is given to them.
_BUILDERS = {
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._utils._rebuild_sparse_tensor",
    "torch._utils._rebuild_meta_tensor_no_storage",
    "torch.nn.parameter.Parameter",
}  # make a view of numbers that are in the file
_VALUES = {
    "collections.OrderedDict",
    "collections.Counter",
    "torch.Size",
    "torch.device",
    "torch.serialization._get_layout",
    "_codecs.encode",
    "builtins.set",
    "builtins.complex",
}  # make no more of texts, numbers and lists than those are; a tensor as the list may have any length, with a stride of 0
_UNNAMED = "what it made"
_PUTS, _GETS = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE")
_CALLS = ("REDUCE", "NEWOBJ")
_OTHER_CALLS = ("INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")  # which torch never writes nor reads
_FILLING: dict[str, Kind | None] = {
    "BUILD": None,
    "APPEND": "list",
    "APPENDS": "list",
    "SETITEM": "dict",
    "SETITEMS": "dict",
    "ADDITEMS": None,
}  # leave what they fill on the stack


class Quantised(ValueError):
    """A file holds quantised tensors, whose reader takes memory by a number in the file."""


@dataclass
class Walked:
    """What one pickle imports, calls and makes."""

    protocol: int = 0
    names: dict[str, None] = field(default_factory=dict)
    """All classes and functions that it names, in their order, without those that plain weights need."""
    calls: dict[str, None] = field(default_factory=dict)
    """Those that it calls, of which one that is called in an unforeseen way is `what it made`."""
    filled: dict[str, Kind] = field(default_factory=dict)
    """How objects of a class are filled, if they are."""
    root: str | None = None
    """The class of what it makes, if that is an object."""


@dataclass
class _Thing:
    """A value on the stack of a pickle."""

    called: bool = False  # it was made by a call, or has such a thing in it
    is_tuple: bool = False
    text: str | None = None
    maker: str | None = None  # the class or function that was called for it


@dataclass(frozen=True)
class _Name:
    """A class or function on the stack of a pickle."""

    path: str


class _Limited:
    """An open file of which a pickle reads no text, number or line that is longer than any in a real one."""

    def __init__(self, file: IO[bytes]):
        self.file = file

    def read(self, n: int) -> bytes:
        return self.file.read(min(n, _MOST_TEXT))

    def readline(self) -> bytes:
        return self.file.readline(_MOST_LINE)


_MARK = object()


def walk(file: IO[bytes]) -> Walked:
    """Go through one pickle of an open file without running it.

    Raises `Quantised`, or whatever a pickle that is spoilt makes the walk stumble over.
    """
    found = Walked()
    stack: list[Any] = []  # things, names and marks
    memo: dict[int, Any] = {}
    argument: Any
    source: Any = _Limited(file)
    for code, argument, _ in pickletools.genops(source):
        if code.name == "PROTO":
            found.protocol = argument
        elif code.name in _PUTS:
            memo[argument] = stack[-1]
        elif code.name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif code.name in _GETS:
            stack.append(memo[argument])
        elif code.name == "GLOBAL":
            stack.append(_named(found, *argument.split(" ", 1)))
        elif code.name == "MARK":
            stack.append(_MARK)
        elif code.name == "STOP":
            found.root = getattr(stack[-1], "maker", None)
        else:
            taken = _taken(code, stack)
            stack += [_made(found, code.name, argument, taken)] * len(code.stack_after)
    return found


def _taken(code: pickletools.OpcodeInfo, stack: list[Any]) -> list[Any]:
    """What an instruction takes from the end of `stack`, without the mark."""
    taken: list[Any] = []
    for wanted in reversed(code.stack_before):
        if wanted is pickletools.stackslice:
            while stack[-1] is not _MARK:
                taken.append(stack.pop())
        elif (top := stack.pop()) is not _MARK:
            taken.append(top)
    return taken[::-1]


def _made(found: Walked, code: str, argument: Any, taken: list[Any]) -> Any:
    """What the instruction `code` leaves on the stack, having taken `taken` from it."""
    if code == "STACK_GLOBAL":
        return _named(found, *(each.text or "?" for each in taken))
    called = code in _CALLS or code == "BINPERSID" or any(isinstance(each, _Thing) and each.called for each in taken)
    if code in _FILLING and isinstance(taken[0], _Thing):
        taken[0].called |= called
        kind = _FILLING[code]
        if kind and taken[0].maker:
            found.filled[taken[0].maker] = kind
        return taken[0]
    if code in _FILLING or code in _OTHER_CALLS:
        found.calls[_UNNAMED] = None
    maker = _call(found, *taken) if code in _CALLS else None
    text = argument if isinstance(argument, str) else None
    return _Thing(called, code in _TUPLES, text, maker)


def _named(found: Walked, module: str, name: str = "") -> _Name:
    """The name as Python 3 has it: pickles of torch's protocol have those of Python 2."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    path = f"{module}.{name}"
    if path not in _BUILDERS and path not in _VALUES:
        found.names[path] = None
    return _Name(path)


def _call(found: Walked, function: Any, arguments: Any) -> str | None:
    """Note that `function` is called, unless plain weights need it; returns its name."""
    path = function.path if isinstance(function, _Name) else _UNNAMED
    if path == _QUANTISED:
        raise Quantised("it holds quantised tensors")
    if not isinstance(arguments, _Thing) or not arguments.is_tuple:
        path = _UNNAMED
    if path in _BUILDERS or (path in _VALUES and not arguments.called):
        return None
    found.calls[path] = None
    return path if path != _UNNAMED else None
