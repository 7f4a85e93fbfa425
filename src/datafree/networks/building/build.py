"""Networks by name: an architecture of this package, one of timm, or a factory of a package that the caller trusts."""

import importlib
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from torch import nn

from datafree.core.settings import Option, first_line, unknown
from datafree.core.spec import InputSpec
from datafree.networks.architectures import ARCHITECTURES
from datafree.networks.building import hub, named
from datafree.networks.building.limits import FOREIGN, MAX_WEIGHTS, BeyondLimits, check_options, limited, reason_of

_TIMM_LOADS = ("pretrained", "checkpoint", "cache", "weights")  # options that begin so download or read other files
_LOADS = ("pretrained", "weights")  # those of other factories, as torchvision's
_META = re.compile(
    r"meta tensor|meta device|device meta|(devices,|and|on) meta\b|'Meta' backend"
)  # in torch's errors of values that are read


def build(
    architecture: str,
    inputs: InputSpec,
    classes: int,
    options: Mapping[str, Option] | None = None,
    allow_code: Collection[str] = (),
) -> nn.Module:
    """Build a network with random weights.

    Args:
        architecture: a name from `ARCHITECTURES` (`resnet20`), `timm:NAME`, `torchvision:NAME`, `package.module:factory`, or
            `file.py:factory`.
        inputs: shape and scaling of one input.
        classes: number of classes, the size of dim 1 of the logits.
        options: keyword arguments of the factory.
        allow_code: packages whose code may be imported and called; this package and timm need not be named.

    Returns:
        The network. A `package.module:factory` is called with `options` only; its defaults that download weights are set off.

    Raises:
        ValueError: the name is unknown, its package is not installed or not in `allow_code`, the options do not fit, or the
            network is beyond the limits (`networks/building/limits.py`), which is found before any memory is used.
    """
    made = outline(architecture, inputs, classes, options, allow_code)
    return made if is_real(made) else _call(architecture, _factory(architecture, inputs, classes, options, allow_code))


def outline(
    architecture: str,
    inputs: InputSpec,
    classes: int,
    options: Mapping[str, Option] | None = None,
    allow_code: Collection[str] = (),
    scratch: int = 4 * MAX_WEIGHTS,
    most: int = MAX_WEIGHTS,
) -> nn.Module:
    """The network on the meta device, which has shapes and no memory; no tensor of more than `scratch` bytes is made.

    A factory that reads the values of its weights builds the real network, of at most `most` weights: see `is_real`. Takes and
    raises what `build` does.
    """
    factory = _factory(architecture, inputs, classes, options, allow_code)
    try:
        return _call(architecture, factory, scratch)
    except _NeedsMemory:
        return _call(architecture, factory, most=most)


def is_real(module: nn.Module) -> bool:
    """Whether the weights of `module` are in memory, rather than on the meta device."""
    return not any(weight.is_meta for weight in module.state_dict().values())


def timm_description(name: str) -> tuple[InputSpec, int]:
    """Inputs and number of classes from timm's `pretrained_cfg` of `name`. Raises `ValueError` if timm has none."""
    timm = _timm()
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except Exception as error:
        raise ValueError(f"timm has no network {name!r} ({first_line(error)}); see timm.list_models().") from error
    if config is None:
        raise ValueError(f"timm has no input description of {name!r}; pass --inputs, --mean, --std and --classes.")
    return InputSpec(shape=config.input_size, mean=config.mean, std=config.std), config.num_classes


class _NeedsMemory(Exception):
    """A factory reads the values of its weights, which the meta device does not have."""


def _call(name: str, factory: Callable[[], object], scratch: int | None = None, most: int = MAX_WEIGHTS) -> nn.Module:
    """What `factory` makes, within the limits; whatever it raises becomes one sentence."""
    try:
        with limited(name, scratch, most):
            module = factory()
    except BeyondLimits:
        raise
    except FOREIGN as error:  # a factory is code of others, which may raise anything
        reason = reason_of(error)
        if scratch is not None and isinstance(error, RuntimeError | TypeError) and _META.search(str(error)):
            raise _NeedsMemory from error
        if isinstance(error, ValueError) and name in ARCHITECTURES:
            raise
        if isinstance(error, TypeError):
            raise ValueError(f"{name} does not take these options ({reason}); check --options.") from error
        if isinstance(error, OSError):
            raise ValueError(
                f"{name} reads or downloads another file, which failed ({reason}); set that off with --options."
            ) from error
        raise ValueError(f"{name} cannot be built ({reason}); check --options, --inputs and --classes.") from error
    if not isinstance(module, nn.Module):
        raise ValueError(f"{name} returns a {type(module).__name__}, not a torch module; name a factory of networks.")
    return module


def _factory(
    architecture: str, inputs: InputSpec, classes: int, options: Mapping[str, Option] | None, allow_code: Collection[str]
) -> Callable[[], object]:
    """What builds the network, with its arguments. Raises `ValueError` for an unknown name, and options that are refused."""
    options = dict(options or {})
    if architecture in ARCHITECTURES:
        check_options(architecture, options, ())
        return partial(ARCHITECTURES[architecture], inputs.shape, classes, **options)
    if architecture.startswith("timm:"):
        return _timm_factory(architecture, inputs, classes, options)
    if architecture.startswith(hub.PREFIX):
        return hub.factory(architecture, classes, options)
    if architecture.startswith(named.TORCHVISION):
        return named.torchvision_factory(architecture, classes, options)
    if ":" in architecture:
        factory = _import_factory(architecture, allow_code)
        check_options(architecture, options, _LOADS)
        factory, options = _by_name(factory, options)
        return partial(factory, **{**_without_downloads(factory), **options})
    others = ", timm:NAME, torchvision:NAME, package.module:factory, or file.py:factory"
    raise unknown("network", architecture, ARCHITECTURES, others)


def _import_factory(architecture: str, allow_code: Collection[str]) -> Any:
    module_name, _, name = architecture.partition(":")
    package = named.trusted_name(module_name)
    if package not in allow_code:
        raise ValueError(
            f"Building {architecture!r} imports and runs the code of {named.kind_of(package)} {package!r}; if you trust it, "
            f"pass --allow-code {package}."
        )
    try:
        return getattr(named.imported(module_name), name)
    except FOREIGN as error:  # an import runs code of others, which may raise anything
        reason = reason_of(error)
        raise ValueError(f"{architecture!r} cannot be imported ({reason}); check the name and what is installed.") from error


def _by_name(factory: Any, options: dict[str, Option]) -> tuple[Any, dict[str, Option]]:
    """The factory that torchvision's `get_model` calls, which has defaults of its own, and its options; others unchanged."""
    if getattr(factory, "__module__", "").startswith("torchvision.") and factory.__name__ == "get_model" and "name" in options:
        others = dict(options)
        try:
            return importlib.import_module("torchvision.models").get_model_builder(others.pop("name")), others
        except (ValueError, AttributeError):  # no such name: `get_model` itself tells
            return factory, options
    return factory, options


def _without_downloads(factory: Any) -> dict[str, Option]:
    """The options by which `factory` downloads weights by default, as torchvision's segmenters do, set off."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # of some functions in C
        return {}
    loading = [each for each in parameters if each.name.startswith(_LOADS) and each.default is not each.empty]
    return {each.name: False if isinstance(each.default, bool) else None for each in loading if each.default}


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ValueError("timm is not installed; pip install 'datafree[vision]'.") from error


def _timm_factory(architecture: str, inputs: InputSpec, classes: int, options: Mapping[str, Option]) -> Callable[[], object]:
    timm, name = _timm(), architecture.removeprefix("timm:")
    if not timm.is_model(name.split(".")[0]):  # a hub or folder name would download or read other files
        raise ValueError(f"timm has no network {name!r}; see timm.list_models().")
    check_options(architecture, options, _TIMM_LOADS)
    return partial(timm.create_model, name, **{"num_classes": classes, "in_chans": inputs.shape[0], **options})
