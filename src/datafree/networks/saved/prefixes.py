"""A state dict without what stands before its names, and without what lies beside the network's own weights."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

_AVERAGED = re.compile(r"(^|[._/])(ema|swa|averaged?|avg|shadow)([._/]|$)", re.IGNORECASE)
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # of torch, anywhere in a name
_BESIDE = re.compile(
    r"(n_averaged|(criterion|loss(es)?|metrics?|(\w+_)?(loss(es)?|loss_fn|criterion|metrics?|acc(uracy)?)|"
    r"(ema|swa|teacher|momentum|model_ema|ema_model|optimizer)(_\w+)?)(\.\w+)*)$"
)  # names of what lies beside a network's own weights
_MOST_PARTS = 12  # of a name that may be a prefix
_TRIED = 8  # prefixes for which most names fit


@dataclass(frozen=True)
class State:
    """Tensors with their names, as they lie together in a checkpoint.

    Args:
        place: the keys that lead there, joined by `/`; empty at the top.
        tensors: the tensors with their names, of which some may be no texts in a spoilt file.
        prefix: what was cut from the names, as `module.`.
        wrappers: marks of torch's wrappers that were cut from within the names.
        added: what was put before the names.
        left: names of tensors there that are not among `tensors`.
        beside: others that fit as well.
        swapped: whether they are averaged ones in the place of the ordinary ones, which lie elsewhere.
        joined: whether they lie apart, in a dict for each part of the network.
    """

    place: str
    tensors: dict[Any, Tensor]
    prefix: str = ""
    wrappers: tuple[str, ...] = ()
    added: str = ""
    left: tuple[str, ...] = ()
    beside: "tuple[State, ...]" = ()
    swapped: bool = False
    joined: bool = False

    @property
    def averaged(self) -> bool:
        """Whether these are weights averaged over the training, by the names of where they lie."""
        named = any(_AVERAGED.search(text) for text in (self.place, self.prefix))
        return self.swapped or named or "n_averaged" in self.left or "n_averaged" in self.tensors

    @property
    def label(self) -> str:
        """Where the weights lie, as `state_dict/model`, to choose them by; a dot for the whole file."""
        return "/".join(part for part in (self.place, self.prefix.removesuffix(".")) if part) or "."

    @property
    def dropped(self) -> str:
        """Everything that was cut from the names."""
        return ", ".join(part for part in (self.prefix, *(f"{name}." for name in self.wrappers)) if part)


def cuts(state: State, expected: Mapping[str, Tensor]) -> list[State]:
    """`state` without each prefix after which most names fit, the best first, and without what lies beside the network."""
    found = []
    for given in (state, *_unwrapped(state, expected)):
        for added in _chain(expected):
            inner = {name.removeprefix(added) for name in expected}
            votes = Counter(prefix for name in given.tensors for prefix, rest in _splits(name) if rest in inner)
            for prefix, _ in votes.most_common(_TRIED):
                found.append(_cut(replace(given, prefix=prefix, added=added), expected))
    return found


def _cut(state: State, expected: Mapping[str, Tensor]) -> State:
    """The tensors of `state` whose names begin with its prefix, without it, and without those of what lies beside them."""
    names = {
        name: state.added + name.removeprefix(state.prefix) if isinstance(name, str) else name
        for name in state.tensors
        if not isinstance(name, str) or name.startswith(state.prefix)
    }
    own = {name: new for name, new in names.items() if new in expected or not isinstance(new, str) or not _BESIDE.match(new)}
    left = tuple(str(name) for name in state.tensors if name not in own)
    return replace(state, tensors={new: state.tensors[name] for name, new in own.items()}, left=left)


def _splits(name: Any) -> Iterator[tuple[str, str]]:
    """Each way to part a dotted name in a prefix, which ends in a dot or is empty, and the rest."""
    if isinstance(name, str):
        parts = name.split(".", _MOST_PARTS)
        start = 0
        for part in parts:
            yield name[:start], name[start:]
            start += len(part) + 1


def _chain(expected: Mapping[str, Tensor]) -> list[str]:
    """Prefixes that all names of the network have, and that a file may lack: `` first, then `model.`, ..."""
    found = [""]
    names = list(expected)
    for prefix, _ in _splits(names[0] if names else ""):
        if prefix and all(name.startswith(prefix) for name in names):
            found.append(prefix)
    return found


def _unwrapped(state: State, expected: Mapping[str, Tensor]) -> Iterator[State]:
    """`state` without the marks of torch's wrappers within its names, then also without each `module`, if it has any."""
    used = {part for name in expected for part in name.split(".")}
    for marks in (_WRAPPERS, (*_WRAPPERS, "module")):
        cut = {mark for name in state.tensors if isinstance(name, str) for mark in marks if mark in name.split(".")} - used
        names = {
            name: ".".join(part for part in name.split(".") if part not in cut) if isinstance(name, str) else name
            for name in state.tensors
        }
        if cut and len(set(names.values())) == len(names):
            tensors = {new: state.tensors[name] for name, new in names.items()}
            yield replace(state, tensors=tensors, wrappers=tuple(sorted(cut)))
