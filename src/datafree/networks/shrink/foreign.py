"""Families of timm's and torchvision's architectures: the names in the teacher's source file, none of them pretrained."""

import difflib
import importlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from datafree.networks.network import Card
from datafree.networks.shrink.families import SMALL, Variant

MOST = 48  # names of a family that are looked at, those most like the teacher's first
TORCHVISION = "torchvision.models"
# What may learn from a teacher of any family at large inputs: efficient designs for devices, in several sizes.
_ANY = (
    *(f"mobilenetv3_{size}" for size in ("small_050", "small_075", "small_100", "large_075", "large_100")),
    *(f"resnet{depth}" for depth in ("10t", "14t", "18", "26", "34")),
    "efficientnet_b0",
)


def variants_elsewhere(card: Card) -> Iterator[Variant]:
    """The architectures of timm and torchvision that may learn from the network of `card`, those of its family first."""
    options = {name: value for name, value in card.options.items() if name != "name"}
    for name in _siblings(card):
        yield Variant(name, dict(options))
    if card.task == "classification" and max(card.inputs.shape[1:]) > SMALL and _module("timm"):
        yield from (Variant(f"timm:{name}", kin=False) for name in _ANY if f"timm:{name}" != card.architecture)


def _siblings(card: Card) -> list[str]:
    """Names of the teacher's family, as `build` takes them."""
    prefix, _, name = card.architecture.partition(":")
    if prefix == "timm":
        name = name.partition(".")[0]  # without the tag of its weights
        timm, registry = _module("timm"), _module("timm.models._registry")
        names = timm.list_models(module=registry._model_to_module[name]) if registry and timm.is_model(name) else []
        return [f"timm:{each}" for each in _like(name, names)]
    if prefix.partition(".")[0] == "torchvision":
        models = _module(TORCHVISION)
        name = str(card.options.get("name", "")) if name == "get_model" else name
        known = models.list_models() if models else []
        if name not in known:
            return []
        home = models.get_model_builder(name).__module__
        names = [each for each in known if models.get_model_builder(each).__module__ == home]
        return [f"{TORCHVISION if home.count('.') == 2 else home.rpartition('.')[0]}:{each}" for each in _like(name, names)]
    return []


def _like(name: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that begin with the same letters as `name`, without itself, the most similar first."""
    stem = re.match(r"[a-z]*", name)
    assert stem
    others = [each for each in names if each != name and each.startswith(stem[0])]
    return sorted(others, key=lambda each: -difflib.SequenceMatcher(None, name, each).ratio())[:MOST]


def _module(name: str) -> Any:
    """The module `name`, or None if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
