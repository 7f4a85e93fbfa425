"""State dicts in what a checkpoint holds, and the one whose names fit a network, whatever stands before them."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

UNUSED = "num_batches_tracked"  # a counter that nothing here reads, and that files from before torch 0.4.1 lack
EMA, MODEL = "ema", "model"
_DEEPEST, _MOST_PLACES = 4, 10_000  # levels of nesting, and dicts that are looked at
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
        wrappers: whether marks of torch's wrappers were cut from within the names.
        added: what was put before the names.
        left: names of tensors there that are not among `tensors`.
        beside: labels of others that fit as well.
    """

    place: str
    tensors: dict[Any, Tensor]
    prefix: str = ""
    wrappers: tuple[str, ...] = ()
    added: str = ""
    left: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    @property
    def averaged(self) -> bool:
        """Whether these are weights averaged over the training, by the names of where they lie."""
        return bool(_AVERAGED.search(self.place) or _AVERAGED.search(self.prefix)) or "n_averaged" in (
            *self.left,
            *self.tensors,
        )

    @property
    def label(self) -> str:
        """Where the weights lie, as `state_dict/model`, to choose them by; empty for those of a plain state dict."""
        return "/".join(part for part in (self.place, self.prefix.removesuffix(".")) if part)

    @property
    def dropped(self) -> str:
        """Everything that was cut from the names."""
        return ", ".join(part for part in (self.prefix, *(f"{name}." for name in self.wrappers)) if part)


def states_in(tree: Any) -> list[State]:
    """The state dicts in what a checkpoint holds, in their order, nested up to four levels deep."""
    return list(_states(tree, (), set()))


def _states(tree: Any, place: tuple[str, ...], seen: set[int]) -> Iterator[State]:
    if isinstance(tree, list | tuple) and len(tree) < _MOST_PARTS:
        tree = dict(enumerate(tree))
    if not isinstance(tree, dict) or id(tree) in seen or len(seen) > _MOST_PLACES:
        return
    seen.add(id(tree))
    tensors = {name: value for name, value in tree.items() if isinstance(value, Tensor)}
    if any(isinstance(name, str) for name in tensors):
        yield State("/".join(place), tensors)
    if len(place) < _DEEPEST:
        for name, value in tree.items():
            yield from _states(value, (*place, str(name)), seen)


def fit(states: list[State], expected: Mapping[str, Tensor], which: str | None, file: str) -> State:
    """Of `states` the weights of the network whose state dict is `expected`; of averaged and ordinary ones the averaged.

    The names lose what stands before all those that fit. Where no state fits, the one of which most names fit is returned.

    Args:
        states: what `states_in` found, at least one.
        expected: tensors of the network, of which names and shapes count.
        which: `ema` or `model`, or the label of one of several that fit; None: averaged weights if there are any.
        file: where they come from, for errors.

    Raises:
        ValueError: nothing is `which`, or several states of different values fit equally well; says where they lie.
    """
    tried = [cut for state in states for cut in _cuts(state, expected)]
    fitting = [state for state in tried if _fits(state, expected)]
    if not fitting:
        return max(tried or states, key=lambda state: (_overlap(state, expected), len(state.tensors)))
    distinct = _distinct(fitting)
    chosen = _chosen(distinct, which, file)
    return replace(chosen, beside=tuple(state.label for state in distinct if state is not chosen))


def _chosen(fitting: list[State], which: str | None, file: str) -> State:
    averaged, ordinary = ([state for state in fitting if state.averaged is kind] for kind in (True, False))
    kinds = {EMA: averaged, MODEL: ordinary, None: averaged or ordinary}
    found = kinds[which] if which in kinds else [state for state in fitting if state.label == which]
    places = ", ".join(repr(state.label or "the file itself") for state in fitting[:8])
    if not found:
        what = {EMA: "no averaged weights", MODEL: "only averaged weights"}.get(which or "", f"no weights under {which!r}")
        raise ValueError(f"{file} holds {what} that fit, but those of {places}; leave out --which, or name another.")
    if len(found) > 1:
        raise ValueError(
            f"{file} holds several weights that fit, {places}, which differ; choose one, as --which {found[0].label or MODEL}."
        )
    return found[0]


def _distinct(states: list[State]) -> list[State]:
    """`states` without those that hold the same numbers as an earlier one of their kind."""
    kept: list[State] = []
    for state in states:
        if not any(each.averaged == state.averaged and _same(each.tensors, state.tensors) for each in kept):
            kept.append(state)
    return kept


def _same(first: dict[Any, Tensor], second: dict[Any, Tensor]) -> bool:
    """Whether two states that fit, so that none is of endless size, hold the same numbers."""
    return first.keys() == second.keys() and all(
        value is second[name]
        or (is_plain(value) and is_plain(second[name]) and value.dtype == second[name].dtype and value.equal(second[name]))
        for name, value in first.items()
    )


def is_plain(value: Tensor) -> bool:
    """Whether `value` is plain numbers in memory."""
    return value.layout == torch.strided and value.device.type == "cpu" and not value.is_nested


def _fits(state: State, expected: Mapping[str, Tensor]) -> bool:
    """Whether `state` has each name that the network has, in its shape, and no other."""
    return state.tensors.keys() >= {name for name in expected if not name.endswith(UNUSED)} and all(
        name in expected and not value.is_nested and value.shape == expected[name].shape
        for name, value in state.tensors.items()
    )


def _overlap(state: State, expected: Mapping[str, Tensor]) -> int:
    return sum(name in expected for name in state.tensors)


def _cuts(state: State, expected: Mapping[str, Tensor]) -> list[State]:
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
