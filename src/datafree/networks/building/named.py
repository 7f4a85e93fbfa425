"""Networks of torchvision by name, and the code of others: a package, one in the working directory, or one file."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from datafree.core.settings import Option, first_line
from datafree.core.spec import InputSpec
from datafree.networks.building.limits import check_options

TORCHVISION = "torchvision:"
_LOADS = ("pretrained", "weights")
_OTHERS = {
    "detection": "detects objects",
    "video": "looks at videos",
    "optical_flow": "finds motion",
    "quantization": "is quantised",
}


def torchvision_factory(architecture: str, classes: int, options: Mapping[str, Option]) -> Callable[[], object]:
    """What builds torchvision's network of that name, without weights. Raises `ValueError` for one that is not served."""
    builder = _builder(architecture.removeprefix(TORCHVISION))
    check_options(architecture, options, _LOADS)
    backbone = {"weights_backbone": None} if "segmentation" in builder.__module__ else {}
    return partial(builder, **{"weights": None, "num_classes": classes, **backbone, **options})


def torchvision_description(name: str) -> tuple[InputSpec, int]:
    """Inputs and number of classes by the transforms of torchvision's own weights of `name`; nothing is downloaded.

    Raises `ValueError` if torchvision has no such network, or one that is not served.
    """
    _builder(name)
    weights = importlib.import_module("torchvision.models").get_model_weights(name).DEFAULT
    made = weights.transforms()
    crop = getattr(made, "crop_size", None) or made.resize_size
    side = crop[0] if isinstance(crop, list | tuple) else crop
    return InputSpec(shape=(3, side, side), mean=tuple(made.mean), std=tuple(made.std)), len(weights.meta["categories"])


def _builder(name: str) -> Any:
    try:
        models = importlib.import_module("torchvision.models")
    except ImportError as error:
        raise ValueError("torchvision is not installed; pip install 'datafree[vision]'.") from error
    try:
        builder = models.get_model_builder(name)
    except ValueError as error:
        raise ValueError(
            f"torchvision has no network {name!r} ({first_line(error)}); see torchvision.models.list_models()."
        ) from error
    for part, does in _OTHERS.items():
        if f".{part}" in builder.__module__:
            raise ValueError(f"torchvision's {name} {does}; give a network that classifies images or segments them by pixel.")
    return builder


def trusted_name(module: str) -> str:
    """What --allow-code must name for `module`: the file `net.py`, or the first package of `package.module`."""
    return module if module.endswith(".py") else module.partition(".")[0]


def kind_of(name: str) -> str:
    """Whether `name`, of --allow-code, is a file or a package."""
    return "file" if name.endswith(".py") else "package"


def imported(module: str) -> ModuleType:
    """Import `module`, which the caller trusts: a file `net.py`, or a package, also one in the working directory.

    The working directory is searched last, and only meanwhile, so that it hides nothing that is installed. A file's neighbours
    can be imported by it meanwhile too. Raises whatever the import raises.
    """
    place = str(Path(module).absolute().parent) if module.endswith(".py") else str(Path.cwd())
    sys.path.append(place)
    try:
        importlib.invalidate_caches()
        return _file(Path(module)) if module.endswith(".py") else importlib.import_module(module)
    finally:
        sys.path.remove(place)


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"the file {path} does not exist")
    name = f"datafree_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # which dataclasses and pickles of the file look up
    spec.loader.exec_module(module)
    return module
