"""Networks by name: an architecture of this package, one of timm, or a factory of a package that the caller trusts."""

import importlib
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from datafree.core.spec import InputSpec
from datafree.networks.architectures import ARCHITECTURES

_TIMM_LOADS = ("pretrained", "checkpoint", "cache")  # timm options that begin so download or read other files

Option = bool | int | float | str | None


def build(
    architecture: str,
    inputs: InputSpec,
    classes: int,
    options: Mapping[str, Option] | None = None,
    allow_code: Collection[str] = (),
) -> nn.Module:
    """Build a network with random weights.

    Args:
        architecture: a name from `ARCHITECTURES` (`resnet20`), `timm:NAME`, or `package.module:factory`.
        inputs: shape and scaling of one input.
        classes: number of classes, the size of dim 1 of the logits.
        options: keyword arguments of the factory.
        allow_code: packages whose code may be imported and called; this package and timm need not be named.

    Returns:
        The network. A `package.module:factory` is called with `options` only.

    Raises:
        ValueError: the name is unknown, its package is not installed or not in `allow_code`, or the options do not fit.
    """
    options = dict(options or {})
    if architecture in ARCHITECTURES:
        return _call(architecture, ARCHITECTURES[architecture], inputs.shape, classes, options=options)
    if architecture.startswith("timm:"):
        return _build_timm(architecture.removeprefix("timm:"), inputs, classes, options)
    if ":" in architecture:
        return _call(architecture, _import_factory(architecture, allow_code), options=options)
    raise ValueError(
        f"No network is named {architecture!r}; pass one of {', '.join(ARCHITECTURES)}, timm:NAME, or package.module:factory."
    )


def timm_description(name: str) -> tuple[InputSpec, int]:
    """Inputs and number of classes from timm's `pretrained_cfg` of `name`. Raises `ValueError` if timm has none."""
    config = _timm().get_pretrained_cfg(name, allow_unregistered=True)
    if config is None:
        raise ValueError(f"timm has no input description of {name!r}; pass --inputs, --mean, --std and --classes.")
    return InputSpec(shape=config.input_size, mean=config.mean, std=config.std), config.num_classes


def _call(name: str, factory: Any, *arguments: Any, options: Mapping[str, Option]) -> nn.Module:
    try:
        module = factory(*arguments, **options)
    except TypeError as error:
        raise ValueError(f"{name} does not take these options ({error}); check --options.") from error
    if not isinstance(module, nn.Module):
        raise ValueError(f"{name} returns a {type(module).__name__}, not a torch module; name a factory of networks.")
    return module


def _import_factory(architecture: str, allow_code: Collection[str]) -> Any:
    module_name, _, name = architecture.partition(":")
    package = module_name.partition(".")[0]
    if package not in allow_code:
        raise ValueError(
            f"Building {architecture!r} imports and runs the code of package {package!r}; if you trust it, "
            f"pass --allow-code {package}."
        )
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{architecture!r} cannot be imported ({error}); check the name and what is installed.") from error


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ValueError("timm is not installed; pip install 'datafree[vision]'.") from error


def _build_timm(name: str, inputs: InputSpec, classes: int, options: Mapping[str, Option]) -> nn.Module:
    timm = _timm()
    if not timm.is_model(name.split(".")[0]):  # a hub or folder name would download or read other files
        raise ValueError(f"timm has no network {name!r}; see timm.list_models().")
    if loading := [key for key in options if key.startswith(_TIMM_LOADS)]:
        raise ValueError(f"The option {loading[0]!r} makes timm read another file; pack the weights themselves instead.")
    arguments = {"num_classes": classes, "in_chans": inputs.shape[0], **options}
    return _call(f"timm:{name}", timm.create_model, name, options=arguments)
