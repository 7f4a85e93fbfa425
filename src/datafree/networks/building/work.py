"""What a pass through a network takes, found out without memory, and the limits of it: a card may ask for huge inputs."""

import copy
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from datafree.core.spec import InputSpec
from datafree.networks.building.limits import FOREIGN

SMALL = 2**16  # values of an input, up to which a pass of any network is served: 3x128x128 fits
MOST_BYTES = 3 * 2**28  # that one pass of one input may hold at once, beyond the weights
MOST_WORK = 200 * 10**9  # multiply-adds of one pass: DeepLab at 520 pixels has 180, and a core takes some 10 s
WORK_A_WEIGHT = 1100  # or so many for each weight, as transformers have at 512 pixels: it is the file that is large then


@dataclass(frozen=True)
class Work:
    """Of one pass of one input, without the weights."""

    multiply_adds: int
    forward: int  # bytes held at once, at most, without gradients
    backward: int  # bytes kept for a backward pass to the input


def estimate(network: nn.Module, inputs: InputSpec) -> Work | None:
    """The work of `network` in eval mode; None if it fails on the meta device, where tensors have no values."""
    try:
        copied, known = _without_memory(network)
        with torch.no_grad(), FlopCounterMode(display=False) as counter, _Live(known) as plain:
            copied(torch.zeros(1, *inputs.shape, device="meta"))
        with torch.enable_grad(), _Live(known) as kept:
            answer = copied(torch.zeros(1, *inputs.shape, device="meta").requires_grad_())
            backward = kept.now
            del answer
    except FOREIGN:  # a network is code of others; if it fails on real inputs too, the pass that follows says why
        return None
    return Work(int(counter.get_total_flops()) // 2, plain.peak, backward)


def refuse_costly(name: str, network: nn.Module, inputs: InputSpec, small: int = SMALL) -> Work | None:
    """The work of `network`, None for inputs of up to `small` values or if it is not known.

    Raises `ValueError`, with `name` and the size of the inputs, if one pass is beyond the limits.
    """
    work = estimate(network, inputs) if inputs.values > small else None
    if work is None:
        return None
    weights = sum(weight.numel() for weight in network.parameters())
    for unit, size, used, limit in (
        ("MiB", 2**20, work.forward, MOST_BYTES),
        ("billion multiply-adds", 10**9, work.multiply_adds, max(MOST_WORK, WORK_A_WEIGHT * weights)),
    ):
        if used > limit:
            raise ValueError(
                f"The {name} takes {used / size:,.0f} {unit} for one input of {inputs}, and the limit is {limit / size:,.0f}; "
                "give a network of smaller --inputs."
            )
    return work


def _without_memory(network: nn.Module) -> tuple[nn.Module, frozenset[int]]:
    """A copy in eval mode on the meta device, whose weights are never copied, and the keys of their storages."""
    held = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    memo: dict[int, Any] = {}
    for _, value in held:
        empty = torch.empty_like(value, device="meta")
        memo[id(value)] = nn.Parameter(empty, requires_grad=False) if isinstance(value, nn.Parameter) else empty
    storages = frozenset(each.untyped_storage()._cdata for each in memo.values())
    return copy.deepcopy(network, memo).eval(), storages


class _Live(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive at once, except for those in `known`."""

    def __init__(self, known: frozenset[int]):
        super().__init__()
        self.now = self.peak = 0
        self.alive = set(known)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, Tensor):
                self._note(each.untyped_storage())
        return made

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.alive:
            self.alive.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, key, size).atexit = False

    def _free(self, key: int, size: int) -> None:
        self.alive.discard(key)
        self.now -= size
