"""Distil a trained network into a smaller one without any training data."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datafree.api.demo import demo
    from datafree.api.distill import distill
    from datafree.api.dry_run import dry_run
    from datafree.api.estimate import estimate
    from datafree.api.evaluate import evaluate
    from datafree.api.export import export
    from datafree.api.export_set import export_set
    from datafree.api.inspect import inspect
    from datafree.api.pack import pack
    from datafree.api.push import push
    from datafree.api.race import race
    from datafree.api.report import compare, report
    from datafree.api.reproduce import reproduce
    from datafree.api.students import students
    from datafree.api.synthesize import synthesize
    from datafree.api.teach import teach
    from datafree.api.validate import validate
    from datafree.core.spec import InputSpec
    from datafree.data.augment import Augmentation
    from datafree.data.sets import TransferSet
    from datafree.engine.plan import Plan
    from datafree.engine.recipe import Recipe
    from datafree.engine.supervised import Training
    from datafree.methods.blend import Blend
    from datafree.methods.cmi import CMI
    from datafree.methods.csd import CSD
    from datafree.methods.dafl import DAFL
    from datafree.methods.dda import DDA
    from datafree.methods.deepinversion import DeepInversion
    from datafree.methods.dfad import DFAD
    from datafree.methods.dfq import DFQ
    from datafree.methods.fast import Fast
    from datafree.methods.nayer import NAYER
    from datafree.methods.procedural import Procedural
    from datafree.methods.stored import Stored
    from datafree.methods.sttss import STTSS
    from datafree.methods.zskt import ZSKT
    from datafree.networks.black_box.box import BlackBox
    from datafree.networks.black_box.command import Command
    from datafree.networks.building.build import build
    from datafree.networks.network import Card, Network
    from datafree.networks.whole import load
    from datafree.recipes import RECIPES

__version__ = "0.1.0"

# Public name -> its module, imported at the first use of the name, so that `datafree --help` does not wait for torch.
_MODULES = {
    "Augmentation": "data.augment",
    "BlackBox": "networks.black_box.box",
    "Blend": "methods.blend",
    "CMI": "methods.cmi",
    "CSD": "methods.csd",
    "Card": "networks.network",
    "Command": "networks.black_box.command",
    "DAFL": "methods.dafl",
    "DDA": "methods.dda",
    "DFAD": "methods.dfad",
    "DFQ": "methods.dfq",
    "DeepInversion": "methods.deepinversion",
    "Fast": "methods.fast",
    "InputSpec": "core.spec",
    "NAYER": "methods.nayer",
    "Network": "networks.network",
    "Plan": "engine.plan",
    "Procedural": "methods.procedural",
    "RECIPES": "recipes",
    "Recipe": "engine.recipe",
    "STTSS": "methods.sttss",
    "Stored": "methods.stored",
    "Training": "engine.supervised",
    "TransferSet": "data.sets",
    "ZSKT": "methods.zskt",
    "build": "networks.building.build",
    "compare": "api.report",
    "demo": "api.demo",
    "distill": "api.distill",
    "dry_run": "api.dry_run",
    "estimate": "api.estimate",
    "evaluate": "api.evaluate",
    "export": "api.export",
    "export_set": "api.export_set",
    "inspect": "api.inspect",
    "load": "networks.whole",
    "pack": "api.pack",
    "push": "api.push",
    "race": "api.race",
    "report": "api.report",
    "reproduce": "api.reproduce",
    "students": "api.students",
    "synthesize": "api.synthesize",
    "teach": "api.teach",
    "validate": "api.validate",
}

__all__ = [
    "CMI",
    "CSD",
    "DAFL",
    "DDA",
    "DFAD",
    "DFQ",
    "NAYER",
    "RECIPES",
    "STTSS",
    "ZSKT",
    "Augmentation",
    "BlackBox",
    "Blend",
    "Card",
    "Command",
    "DeepInversion",
    "Fast",
    "InputSpec",
    "Network",
    "Plan",
    "Procedural",
    "Recipe",
    "Stored",
    "Training",
    "TransferSet",
    "build",
    "compare",
    "demo",
    "distill",
    "dry_run",
    "estimate",
    "evaluate",
    "export",
    "export_set",
    "inspect",
    "load",
    "pack",
    "push",
    "race",
    "report",
    "reproduce",
    "students",
    "synthesize",
    "teach",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'datafree' has no attribute {name!r}")
    return getattr(import_module(f"datafree.{_MODULES[name]}"), name)
