"""Inert objects in place of those of others in a file: nothing of their classes is imported, called or kept."""

import sys
from collections import OrderedDict
from typing import Any, Literal

Kind = Literal["dict", "list"]
_MODULES = {
    *"abc argparse dataclasses datetime decimal enum fractions logging math numbers pathlib random re time typing".split(),
    *"uuid zoneinfo".split(),
}  # of Python, in whose names there is nothing but values, in checkpoints as people save them
_TYPES = "bool bytes dict float frozenset int list object range slice str tuple type".split()
_METHODS = "builtins.getattr"  # by which torch's protocol names a method of a class; what it gives must not be called
_OTHERS = "types.SimpleNamespace functools.partial collections.defaultdict collections.deque".split()
_VALUES = {_METHODS, *_OTHERS, *(f"builtins.{name}" for name in _TYPES)}
_OF_TORCH = ("torch.nn.", "torch.optim.", "torch.utils.data.", "torch.amp.", "torch.cuda.amp.", "torch.torch_version.")
_BY_TORCH = ("torch.nn.parameter.", "torch.nn.utils.")  # which torch's reader makes, or which tensors are made by
_PYTHON = {*sys.stdlib_module_names, "builtins"}


def is_foreign(name: str) -> bool:
    """Whether a stand-in serves for the class or function `name`: it is a value of Python's, or code of others.

    The functions of Python and torch are refused instead: a file that names `os.system` is no checkpoint.
    """
    package = name.partition(".")[0]
    if package == "torch":
        return name.startswith(_OF_TORCH) and not name.startswith(_BY_TORCH)
    return package in _MODULES or name in _VALUES or not is_of_python(name)


def is_of_python(name: str) -> bool:
    """Whether `name` belongs to Python's own library."""
    return name.partition(".")[0] in _PYTHON


def is_of_others(name: str) -> bool:
    """Whether `name` belongs to none of Python, numpy and torch."""
    return not is_of_python(name) and name.partition(".")[0] not in ("numpy", "torch")


class StandIn:
    """An object of a class of others: it takes what it is given, and keeps nothing."""

    name = ""
    """The class that it stands for."""

    def __init__(self, *_: object):
        pass

    def __setstate__(self, _: object) -> None:
        pass

    def __repr__(self) -> str:
        return f"a {self.name}"


class _Dict:
    """Makes a plain dict in place of a class that is filled like one."""

    def __new__(cls, *_: object) -> Any:
        return OrderedDict()


class _List:
    """Makes a plain list in place of a class that is filled like one."""

    def __new__(cls, *_: object) -> Any:
        return []


def stand_in(name: str, kind: Kind | None) -> type:
    """A class of its own in place of the class `name`, which is filled like `kind` by the file, or not filled."""
    base = {"dict": _Dict, "list": _List, None: StandIn}[kind]
    return type("StandIn", (base,), {"name": name})
