"""Distil a trained network into a smaller one without any training data."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datafree.architectures import build
    from datafree.augment import Augmentation
    from datafree.methods.cmi import CMI
    from datafree.methods.csd import CSD
    from datafree.methods.dda import DDA
    from datafree.methods.deepinversion import DeepInversion
    from datafree.methods.dfad import DFAD
    from datafree.methods.stored import Stored
    from datafree.methods.sttss import STTSS
    from datafree.network import Card, Network, load, pack
    from datafree.plan import Plan
    from datafree.recipe import Recipe
    from datafree.recipes import RECIPES
    from datafree.setfile import TransferSet
    from datafree.spec import InputSpec
    from datafree.verbs import distill, evaluate, synthesize

__version__ = "0.1.0"

# Public name -> its module. Loaded on first use, so that `datafree --help` need not wait for torch.
_HOMES = {
    "CMI": "methods.cmi",
    "CSD": "methods.csd",
    "DDA": "methods.dda",
    "DFAD": "methods.dfad",
    "DeepInversion": "methods.deepinversion",
    "Stored": "methods.stored",
    "STTSS": "methods.sttss",
    "Augmentation": "augment",
    "Card": "network",
    "Network": "network",
    "build": "architectures",
    "load": "network",
    "pack": "network",
    "Plan": "plan",
    "RECIPES": "recipes",
    "Recipe": "recipe",
    "InputSpec": "spec",
    "TransferSet": "setfile",
    "distill": "verbs",
    "evaluate": "verbs",
    "synthesize": "verbs",
}

__all__ = [
    "CMI",
    "CSD",
    "DDA",
    "DFAD",
    "RECIPES",
    "STTSS",
    "Augmentation",
    "Card",
    "DeepInversion",
    "InputSpec",
    "Network",
    "Plan",
    "Recipe",
    "Stored",
    "TransferSet",
    "build",
    "distill",
    "evaluate",
    "load",
    "pack",
    "synthesize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'datafree' has no attribute {name!r}")
    return getattr(import_module(f"datafree.{_HOMES[name]}"), name)
