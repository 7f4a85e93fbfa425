"""Files of `torch.save`, read without their code, and without what would take memory by a number in the file."""

import pickle
import pickletools
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

_LEGACY = 5  # pickles at the start of a file of the form before torch 1.6, of which torch may run each
_MOST_PICKLED = 2**28  # bytes of the pickle in an archive, which has no numbers of tensors in it
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
    "__builtin__.set",
    "builtins.complex",
    "__builtin__.complex",
}  # make no more of texts, numbers and lists than those are; a tensor as the list may have any length, with a stride of 0


class Quantised(ValueError):
    """A file holds quantised tensors, whose reader takes memory by a number in the file."""


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU, read with `weights_only=True`.

    Raises `ValueError` for an archive that unpacks to more than its own size, as torch never writes one, `Quantised` and
    `pickle.UnpicklingError` for a pickle that calls something else than plain weights and values need, and else whatever
    torch's reader raises: foreign bytes make it stumble in any way.
    """
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":  # as torch tells the forms apart
            _check_archive(path)
        else:
            file.seek(0)
            for _ in range(_LEGACY):
                if file.tell() < path.stat().st_size:
                    _check_calls(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old forms and rare tensors, which the caller accepts or refuses by itself
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as packed:
        entries = packed.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed, which torch does not do")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("it says that it holds more than its size")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                if entry.file_size > _MOST_PICKLED:
                    raise ValueError(f"its {entry.filename} has {entry.file_size / 2**20:,.0f} MiB")
                with packed.open(entry) as file:
                    _check_calls(file)


class _Limited:
    """An open file of which a pickle reads no text, number or line that is longer than any in a real one."""

    def __init__(self, file: IO[bytes]):
        self.file = file

    def read(self, n: int) -> bytes:
        return self.file.read(min(n, _MOST_TEXT))

    def readline(self) -> bytes:
        return self.file.readline(_MOST_LINE)


@dataclass
class _Thing:
    """A value on the stack of a pickle."""

    called: bool = False  # it was made by a call, or has such a thing in it


_MARK = object()
_CALLS = ("REDUCE", "NEWOBJ")
_FILLING = ("BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS")  # leave what they fill on the stack


def _check_calls(file: IO[bytes]) -> None:
    """Go through one pickle of an open file without running it; raises `pickle.UnpicklingError` for an unforeseen call."""
    stack: list[Any] = []  # things, names of what is imported, and marks
    memo: dict[int, Any] = {}
    argument: Any
    source: Any = _Limited(file)
    for code, argument, _ in pickletools.genops(source):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif code.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif code.name == "GLOBAL":
            stack.append(argument.replace(" ", "."))
        elif code.name == "MARK":
            stack.append(_MARK)
        else:
            taken = _taken(code, stack)
            if code.name in _CALLS:
                _check_call(*taken)
            called = code.name in (*_CALLS, "BINPERSID") or any(isinstance(each, _Thing) and each.called for each in taken)
            filled = taken[0] if code.name in _FILLING else _Thing()
            if isinstance(filled, _Thing):
                filled.called |= called
            stack += [filled] * len(code.stack_after)


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


def _check_call(function: Any, arguments: Any) -> None:
    if function == _QUANTISED:
        raise Quantised("it holds quantised tensors")
    known = isinstance(function, str) and isinstance(arguments, _Thing)
    if known and (function in _BUILDERS or (function in _VALUES and not arguments.called)):
        return
    raise pickle.UnpicklingError(f"it calls {function if isinstance(function, str) else 'what it made'}, as no weights do")
