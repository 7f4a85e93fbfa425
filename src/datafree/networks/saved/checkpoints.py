"""State dicts in what a checkpoint holds, and the one whose names fit a network, whatever stands before them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from datafree.networks.saved.prefixes import State, cuts

_UNUSED = "num_batches_tracked"  # a counter that nothing here reads, and that files from before torch 0.4.1 lack
EMA, MODEL = "ema", "model"
_DEEPEST, _MOST_PLACES, _MOST_LISTED = 4, 10_000, 12  # levels of nesting, dicts that are looked at, entries of a list that are
_FEWEST_PARTS = 2
_CURRENT = "current_model_state"  # where Lightning moves the ordinary weights, to put the averaged ones in their place
_LONGEST = 200  # characters of a key that are looked at
_NO_WEIGHTS = re.compile(r"optim\w*|grads?|gradients?|exp_avg(_sq)?|momentum_buffers?", re.IGNORECASE)  # which have their names


def states_in(tree: Any) -> list[State]:
    """The state dicts in what a checkpoint holds, nested up to four levels deep; those joined of parts come last."""
    places = list(dicts_in(tree))
    swapped = {place.removesuffix(_CURRENT) + "state_dict" for place, _ in places if place.endswith(_CURRENT)}
    found = [State(place, _tensors(each), swapped=place in swapped) for place, each in places]
    found += [State(place, _joined(each), joined=True) for place, each in places]
    return [state for state in found if any(isinstance(name, str) for name in state.tensors)]


def dicts_in(tree: Any) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Each dict in what a checkpoint holds that may be a state dict or hold one, with the keys that lead there."""
    yield from _dicts(tree, (), set())


def _dicts(tree: Any, place: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, dict[Any, Any]]]:
    if isinstance(tree, list | tuple) and len(tree) < _MOST_LISTED:
        tree = dict(enumerate(tree))
    if not isinstance(tree, dict) or id(tree) in seen or len(seen) > _MOST_PLACES:
        return
    seen.add(id(tree))
    yield "/".join(place), tree
    if len(place) < _DEEPEST:
        for name, value in _inner(tree).items():
            yield from _dicts(value, (*place, name), seen)


def _inner(tree: dict[Any, Any]) -> dict[str, Any]:
    """Entries of a dict that may hold a state dict."""
    return {str(name): value for name, value in tree.items() if not _NO_WEIGHTS.fullmatch(str(name)[:_LONGEST])}


def _joined(tree: dict[Any, Any]) -> dict[Any, Tensor]:
    """The tensors in a dict with those of its parts, as `part.name`, if several parts of a network lie apart in it."""
    parts = {name: _tensors(value) for name, value in _inner(tree).items() if isinstance(value, dict)}
    if sum(map(bool, parts.values())) < _FEWEST_PARTS:
        return {}
    return _tensors(tree) | {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}


def _tensors(tree: dict[Any, Any]) -> dict[Any, Tensor]:
    return {name: value for name, value in tree.items() if isinstance(value, Tensor)}


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
    tried = [cut for state in states for cut in cuts(state, expected)]
    whole = [state for state in tried if _fits(state, expected)]
    fitting = [state for state in whole if not state.joined] or whole
    if not fitting:
        return max(tried or states, key=lambda state: (_overlap(state, expected), len(state.tensors)))
    distinct = _distinct(fitting)
    chosen = _chosen(distinct, which, file)
    beside = tuple(state for state in distinct if state is not chosen)
    named = tuple(state.prefix for state in beside if state.place == chosen.place and state.prefix)
    return replace(chosen, beside=beside, left=tuple(name for name in chosen.left if not name.startswith(named)))


def holds(states: list[State], expected: Mapping[str, Tensor], shapes: bool = True) -> bool:
    """Whether one of `states` fits the network whose state dict is `expected`, whatever stands before its names; without
    `shapes` only its names need to.
    """
    return any(_fits(cut, expected, shapes) for state in states for cut in cuts(state, expected))


def _chosen(fitting: list[State], which: str | None, file: str) -> State:
    averaged, ordinary = ([state for state in fitting if state.averaged is kind] for kind in (True, False))
    kinds = {EMA: averaged, MODEL: ordinary, None: averaged or ordinary}
    found = kinds[which] if which in kinds else [state for state in fitting if state.label == which]
    places = ", ".join(repr(state.label) for state in fitting[:8])
    if not found:
        what = {EMA: "no averaged weights", MODEL: "only averaged weights"}.get(which or "", f"no weights under {which!r}")
        raise ValueError(f"{file} holds {what} that fit, but those of {places}; leave out --which, or name another.")
    if len(found) > 1:
        raise ValueError(
            f"{file} holds several weights that fit, {places}, which differ; choose one, as --which {found[0].label}."
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


def _fits(state: State, expected: Mapping[str, Tensor], shapes: bool = True) -> bool:
    """Whether `state` has each name that the network has, in its shape, and no other."""
    return state.tensors.keys() >= {name for name in expected if not name.endswith(_UNUSED)} and all(
        name in expected and not value.is_nested and (value.shape == expected[name].shape or not shapes)
        for name, value in state.tensors.items()
    )


def _overlap(state: State, expected: Mapping[str, Tensor]) -> int:
    return sum(name in expected for name in state.tensors)
