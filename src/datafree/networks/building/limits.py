"""What a description of a network may ask for: limits that hold while it is built, and before any memory is used."""

import contextlib
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode

from datafree.core.settings import Option, first_line

MAX_NUMBER = 65_536  # in an option: no width, depth or size of a network of today comes near
MAX_LAYERS = 20_000  # layers and groups of layers; the largest networks of timm have some 3,000
MAX_WEIGHTS = 10**10
SPARE = 2**26  # weights that a network may make and replace while it is built, beyond twice those in its file
SCRATCH = 2**28  # bytes that one tensor may take while a network is built, if its weights take less
_PLACES = ("device", "dtype")  # options that put a network elsewhere, or store it in another precision


FOREIGN = (Exception, SystemExit, GeneratorExit)  # what code of others may raise, to end this program too; Ctrl-C still ends it


def reason_of(error: BaseException) -> str:
    """First line of an error's message, with its type where that says more."""
    return first_line(error) if isinstance(error, Exception) else f"its code calls for the end of this program, {error!r}"


class BeyondLimits(ValueError):
    """A description of a network asks for more than any network needs; the message says what to change."""


def check_options(name: str, options: Mapping[str, Option], loading: Collection[str]) -> None:
    """Raise `BeyondLimits` for an option that no network needs, before its factory sees it.

    That is a number beyond any size of a network, a device, or a name that begins with one of `loading`, by which a factory
    reads other files.
    """
    for key, value in options.items():
        if key.startswith(tuple(loading)) and value:  # factories ask only whether it is true
            raise BeyondLimits(f"The option {key!r} makes {name} read another file; pack the weights themselves instead.")
        if key in _PLACES:
            raise BeyondLimits(f"The option {key!r} of {name} is not for a file to choose; leave it out, and pass --device.")
        if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
            raise BeyondLimits(f"The option {key} of {name} is beyond {MAX_NUMBER:,}; check --options.")


# Which fill a tensor with random numbers, half the time of building a network without memory, where there are none to draw.
_DRAWN = {"normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_", "xavier_normal_", "xavier_uniform_", "trunc_normal_"}


class _Measured(TorchFunctionMode):
    """Refuses the making of a tensor of more than `most` bytes; on the meta device, before it takes any."""

    def __init__(self, name: str, most: int):
        super().__init__()
        self.name, self.most = name, most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _DRAWN:
            filled = args[0] if args else (kwargs or {}).get("tensor")
            if isinstance(filled, Tensor) and filled.is_meta:
                return filled
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.is_meta and made.numel() * made.element_size() > self.most:
            size = made.numel() * made.element_size() / 2**20
            raise BeyondLimits(
                f"Building {self.name} needs a tensor of {size:,.0f} MiB, and the limit is {self.most / 2**20:,.0f}; "
                "check --options and --inputs."
            )
        return made


@contextlib.contextmanager
def limited(name: str, scratch: int | None = None, most: int = MAX_WEIGHTS) -> Iterator[None]:
    """Inside, `BeyondLimits` ends the building of a network of too many layers or weights, or with a layer without weights.

    With `scratch` the network is built on the meta device, without memory, and no tensor may be of more bytes than that.
    `most` is the limit of weights. Foreign builders' warnings and log lines are not shown.
    """
    layers = weights = 0

    def count_layer(parent: nn.Module, key: str, layer: nn.Module | None) -> None:
        nonlocal layers
        layers += 1
        if layers > MAX_LAYERS:
            raise BeyondLimits(f"{name} has more than {MAX_LAYERS:,} layers; check --options.")

    def count_weights(parent: nn.Module, key: str, weight: nn.Parameter | None) -> None:
        nonlocal weights
        if weight is None:
            return
        weights += weight.numel()
        if weights > most:
            raise BeyondLimits(f"{name} has more than {most:,} weights; check --options, --inputs and --classes.")
        if not weight.numel():
            raise BeyondLimits(f"{name} has a layer without weights, {type(parent).__name__}.{key}; check --options.")

    hooks = [
        registration.register_module_module_registration_hook(count_layer),
        registration.register_module_parameter_registration_hook(count_weights),
    ]
    shown = logging.root.manager.disable
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            if scratch is not None:
                stack.enter_context(torch.device("meta"))
                stack.enter_context(_Measured(name, scratch))
            yield
    finally:
        logging.disable(shown)
        for hook in hooks:
            hook.remove()
