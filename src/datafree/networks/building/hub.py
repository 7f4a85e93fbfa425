"""Networks of `transformers`, built from the text of their config: no file is read, no code of a folder is run."""

import importlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from datafree.core.settings import Option, first_line
from datafree.networks.building.limits import FOREIGN, MAX_NUMBER, BeyondLimits, reason_of

PREFIX = "transformers:"
TASKS = {  # name of the task to the class that builds it, and the table of the families that have it
    "image-classification": ("AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES"),
    "semantic-segmentation": ("AutoModelForSemanticSegmentation", "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES"),
}
_MOST_DEPTH = 8  # of groups in a config: a backbone lies in one, its parts in another
_MOST_ENTRIES = 10_000  # values of a config: one without the names of classes has about a hundred
# Entries that say nothing of the shape of a network: names of classes (tens of thousands of characters), where it came from,
# the type of its weights, and what would run code of others.
_DROPPED = (
    "id2label", "label2id", "_name_or_path", "name_or_path", "transformers_version", "dtype", "torch_dtype", "auto_map",
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation",
    "_commit_hash", "problem_type", "finetuning_task", "task_specific_params",
)  # fmt: skip
_LOADING = ("use_pretrained_backbone", "use_timm_backbone", "backbone", "quantization_config", "base_model_name_or_path")


class Logits(nn.Module):
    """A network of transformers that returns its logits as one tensor.

    Args:
        model: the network; takes images and returns an output with `logits`.
        flipped: whether it takes the colours as blue, green, red.
    """

    def __init__(self, model: nn.Module, flipped: bool):
        super().__init__()
        self.model, self.flipped = model, flipped

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes], or [B, classes, H, W] interpolated to the size of `x` [B, C, H, W]."""
        logits: Tensor = self.model(x.flip(1) if self.flipped else x).logits
        if logits.dim() == 4 and logits.shape[2:] != x.shape[2:]:
            return functional.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=False)
        return logits


def config_text(config: Mapping[str, Any], classes: int) -> str:
    """The part of a config by which its network is built, as JSON on one line; the names of classes become their number."""
    return json.dumps({**_without_names(config, 0), "num_labels": classes}, separators=(",", ":"), sort_keys=True)


def renamed(task: str, text: str, state: dict[str, Tensor], path: object) -> dict[str, Tensor]:
    """The weights `state` of a folder, as a `Logits` of this release of transformers names them.

    Files keep the names of the release that first had the family. No file is read here. Raises `ValueError`, with `path`, if
    weights are missing or left over.
    """
    module, settings = _class_of(task, json.loads(text))
    shown, bars = logging.root.manager.disable, _transformers().utils.logging
    had_bars = bars.is_progress_bar_enabled()
    try:
        bars.disable_progress_bar()
        logging.disable(logging.WARNING)
        model, report = module.from_pretrained(None, config=settings, state_dict=state, output_loading_info=True)
    except FOREIGN as error:
        raise ValueError(f"The weights in {path} do not fit its config ({reason_of(error)}); copy or make it again.") from error
    finally:
        logging.disable(shown)
        if had_bars:
            bars.enable_progress_bar()
    for kind in ("missing", "unexpected", "mismatched"):
        if names := sorted(map(str, report[f"{kind}_keys"])):
            raise ValueError(
                f"The weights in {path} do not fit its config, {len(names)} are {kind}: {', '.join(names[:3])}; "
                "copy or make it again."
            )
    return Logits(model.float(), False).state_dict()


def factory(architecture: str, classes: int, options: Mapping[str, Option]) -> Callable[[], object]:
    """What builds the network `architecture`, `transformers:TASK`, of the options `config` (JSON) and `flipped`.

    Raises `ValueError` for another task, other options, and a config that is not JSON, asks for more than any network needs or
    names other files.
    """
    task = architecture.removeprefix(PREFIX)
    if task not in TASKS:
        raise ValueError(f"No task of transformers is named {task!r}; pass one of {', '.join(TASKS)}.")
    if set(options) - {"config", "flipped"} or not isinstance(options.get("config"), str):
        raise ValueError(f"{architecture} takes the options config, its config.json as text, and flipped; check --options.")
    try:
        config = json.loads(str(options["config"]))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The config of {architecture} is not JSON ({first_line(error)}); pack its folder again.") from error
    if not isinstance(config, dict):
        raise ValueError(f"The config of {architecture} is no object; pack its folder again.")
    kept = {**_without_names(config, 0), "num_labels": classes}
    _check(kept, architecture)
    return lambda: Logits(_built(task, kept), bool(options.get("flipped")))


def _built(task: str, config: dict[str, Any]) -> nn.Module:
    module, settings = _class_of(task, config)
    return module(settings)  # type: ignore[no-any-return]


def _class_of(task: str, config: dict[str, Any]) -> tuple[Any, Any]:
    """The class of the network and its settings."""
    transformers = _transformers()
    builder, table = TASKS[task]
    families = getattr(importlib.import_module("transformers.models.auto.modeling_auto"), table)
    family = config.get("model_type")
    if not isinstance(family, str) or family not in families or family == "timm_wrapper":
        raise BeyondLimits(f"transformers has no network for {task} of the family {str(family)[:60]!r}; check config.json.")
    settings = transformers.CONFIG_MAPPING[family].from_dict(config)
    found = getattr(transformers, builder)._model_mapping[type(settings)]
    return (found[0] if isinstance(found, tuple) else found), settings


def task_of(config: Mapping[str, Any]) -> str | None:
    """The task of `TASKS` that a config's `architectures` name; None for any other, as detection."""
    names = config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    if "ImageClassification" in name:
        return "image-classification"
    return "semantic-segmentation" if name.endswith("ForSemanticSegmentation") else None


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise BeyondLimits("transformers is not installed; pip install 'datafree[hub]'.") from error
    except FOREIGN as error:
        raise BeyondLimits(f"transformers cannot be imported ({first_line(error)}); check what is installed.") from error


def _without_names(config: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if depth > _MOST_DEPTH:
        raise BeyondLimits(f"A config has groups more than {_MOST_DEPTH} deep; check config.json.")
    return {
        key: _without_names(value, depth + 1) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in _DROPPED
    }


def _check(config: dict[str, Any], name: str) -> None:
    """Raise `BeyondLimits` for a number that no network needs, more values than that, and an entry that loads other files."""
    waiting: list[tuple[str, Any]] = list(config.items())
    seen = 0
    while waiting:
        key, value = waiting.pop()
        seen += 1
        if seen > _MOST_ENTRIES:
            raise BeyondLimits(f"The config of {name} has more than {_MOST_ENTRIES:,} values; check config.json.")
        if key in _LOADING and value:
            raise BeyondLimits(f"The entry {key!r} makes {name} read another file; give a folder of which it is a part.")
        if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
            raise BeyondLimits(f"The entry {key} of {name} is beyond {MAX_NUMBER:,}; check config.json.")
        if isinstance(value, dict):
            waiting.extend(value.items())
        elif isinstance(value, list):
            waiting.extend((key, each) for each in value[: _MOST_ENTRIES + 1])
