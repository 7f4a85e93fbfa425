"""Networks in folders as the Hugging Face Hub has them: of transformers, of timm, and those that `datafree push` wrote."""

import importlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from datafree.core.files import metadata_entry
from datafree.core.settings import Option, explain, first_line
from datafree.core.spec import InputSpec
from datafree.networks.building import hub
from datafree.networks.building.build import outline
from datafree.networks.building.limits import FOREIGN, SPARE
from datafree.networks.network import LABEL, Card, Network, from_card
from datafree.networks.network import load as load_file
from datafree.networks.outputs import TASKS, probe
from datafree.networks.saved.weights import read_weights

HUB = "hf-hub:"
CONFIG, PREPROCESSOR, WEIGHTS, PICKLED = "config.json", "preprocessor_config.json", "model.safetensors", "pytorch_model.bin"
_MOST_TEXT = 2**23  # bytes of a config: one with the names of 21,000 classes has 1.6 million


def is_folder(source: str | Path) -> bool:
    """Whether `source` is a folder, or a name `hf-hub:OWNER/NAME` of one."""
    return str(source).startswith(HUB) or Path(source).is_dir()


def load_folder(source: str | Path, inputs: InputSpec | None = None, allow_code: Collection[str] = ()) -> Network:
    """The network in a folder or in `hf-hub:OWNER/NAME`, which is downloaded unless it is in the local cache.

    Args:
        source: a folder with `config.json` and weights: of transformers (`model.safetensors`, with `preprocessor_config.json`),
            of timm (`model.safetensors` or `pytorch_model.bin`), or of `datafree push`.
        inputs: shape and scaling of one input; None: those that the folder says.
        allow_code: packages whose code may run; only a folder of `datafree push` may need one.

    Returns:
        The network, on the CPU, in eval mode, with a card by which `Network.save` makes one file of it.

    Raises:
        ValueError: a file is missing or not valid, the network is none that is served, or its weights do not fit.
    """
    folder = _downloaded(str(source).removeprefix(HUB)) if str(source).startswith(HUB) else Path(source)
    weights = folder / WEIGHTS
    if weights.is_file() and metadata_entry(weights, LABEL) is not None:
        return load_file(weights, allow_code)
    if (folder / f"{WEIGHTS}.index.json").is_file() and not weights.is_file():
        raise ValueError(
            f"{folder} has its weights in several files; save it again with one, save_pretrained(..., max_shard_size)."
        )
    config = _read_json(folder / CONFIG)
    if isinstance(config.get("architecture"), str):
        return _of_timm(folder, config, inputs)
    return _of_transformers(folder, config, inputs)


def _of_transformers(folder: Path, config: dict[str, Any], inputs: InputSpec | None) -> Network:
    task = hub.task_of(config)
    if task is None:
        named = config.get("architectures") or config.get("model_type")
        raise ValueError(
            f"{folder} holds {str(named)[:80]}, which neither classifies images nor segments them by pixel; give a folder of "
            "ForImageClassification or ForSemanticSegmentation."
        )
    if not (folder / WEIGHTS).is_file():
        raise ValueError(
            f"{folder} has no {WEIGHTS}; save it again with model.save_pretrained(FOLDER, safe_serialization=True)."
        )
    classes = _classes(folder, config)
    preprocessor = _read_json(folder / PREPROCESSOR) if inputs is None or (folder / PREPROCESSOR).is_file() else {}
    options: dict[str, Option] = {"config": hub.config_text(config, classes)}
    if preprocessor.get("do_flip_channel_order"):
        options["flipped"] = True
    spec = inputs or _spec(folder, preprocessor, config)
    state, architecture = read_weights(folder / WEIGHTS), f"{hub.PREFIX}{task}"
    # First without memory, since a config may ask for terabytes.
    outline(architecture, spec, classes, options, most=2 * sum(value.numel() for value in state.values()) + SPARE)
    state = hub.renamed(task, str(options["config"]), state, folder / WEIGHTS)
    return _network(folder, architecture, options, classes, spec, state)


def _of_timm(folder: Path, config: dict[str, Any], inputs: InputSpec | None) -> Network:
    told = config.get("pretrained_cfg")
    described = {**config, **told} if isinstance(told, dict) else config
    classes, arguments = described.get("num_classes"), config.get("model_args") or {}
    if not isinstance(classes, int) or classes < 2:
        raise ValueError(f"{folder / CONFIG} has {classes!r} as num_classes; give a folder of a classifier.")
    if not isinstance(arguments, dict) or not all(
        v is None or isinstance(v, bool | int | float | str) for v in arguments.values()
    ):
        raise ValueError(
            f"{folder / CONFIG} has model_args that are no numbers, texts, true, false and null; pack its weights."
        )
    if inputs is None:
        inputs = _valid_spec(folder / CONFIG, described.get("input_size"), described.get("mean"), described.get("std"))
    weights = folder / (WEIGHTS if (folder / WEIGHTS).is_file() else PICKLED)
    return _network(folder, f"timm:{config['architecture']}", dict(arguments), classes, inputs, read_weights(weights))


def _network(
    folder: Path, architecture: str, options: Mapping[str, Option], classes: int, inputs: InputSpec, state: dict[str, Any]
) -> Network:
    event: dict[str, Option] = {"event": "packed", "from": folder.name}
    try:
        card = Card(architecture=architecture, options=dict(options), classes=classes, inputs=inputs, history=(event,))
    except ValueError as error:
        raise ValueError(f"{folder} is not described validly ({_why(error)}); check its {CONFIG}.") from error
    module = from_card(card, state, folder, ()).module
    logits = probe("network", module, inputs)
    return Network(module, card.model_copy(update={"task": TASKS[logits.dim()]}))


def _classes(folder: Path, config: dict[str, Any]) -> int:
    names = config.get("id2label")
    found = len(names) if isinstance(names, dict) else config.get("num_labels", 2)  # 2 is the default of transformers
    if not isinstance(found, int) or found < 2:
        raise ValueError(f"{folder / CONFIG} has {found!r} classes; give a folder of a network with two or more.")
    return found


def _spec(folder: Path, preprocessor: dict[str, Any], config: dict[str, Any]) -> InputSpec:
    """The inputs by `preprocessor_config.json`: crop or size, and what is done to pixels 0..255."""
    size = preprocessor.get("crop_size") if preprocessor.get("do_center_crop") else None
    size = size or preprocessor.get("size") or config.get("image_size")
    sides = size if isinstance(size, list) else [size, size]
    if isinstance(size, dict):
        edge = size.get("shortest_edge")
        sides = [size.get("height", edge), size.get("width", edge)]
    channels = config.get("num_channels", 3)
    try:
        scale = 255 * float(preprocessor.get("rescale_factor", 1 / 255)) if preprocessor.get("do_rescale", True) else 255.0
        normalised = preprocessor.get("do_normalize", "image_mean" in preprocessor)
        mean = [float(v) for v in preprocessor["image_mean"]] if normalised else [0.0]
        std = [float(v) for v in preprocessor["image_std"]] if normalised else [1.0]
        shift = 1.0 if preprocessor.get("rescale_offset") else 0.0
        scaled = [(v + shift) / scale for v in mean], [v / scale for v in std]
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(
            f"{folder / PREPROCESSOR} has no valid image_mean, image_std or rescale_factor ({first_line(error)}); pack the "
            "folder with --inputs, --mean and --std."
        ) from error
    return _valid_spec(folder / PREPROCESSOR, [channels, *sides], *scaled)


def _valid_spec(file: Path, shape: Any, mean: Any, std: Any) -> InputSpec:
    try:
        return InputSpec(shape=shape, mean=mean, std=std)
    except ValueError as error:
        raise ValueError(
            f"{file} does not describe inputs ({_why(error)}); pack the folder with --inputs, --mean and --std."
        ) from error


def _why(error: ValueError) -> str:
    from pydantic import ValidationError

    return explain(error).rstrip(".") if isinstance(error, ValidationError) else first_line(error)


def _read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file of a folder. Raises `ValueError` if there is none."""
    if not file.is_file():
        more = "; pack the folder with --inputs, --mean and --std" if file.name == PREPROCESSOR else ", so it holds no network"
        raise ValueError(f"{file.parent} has no {file.name}{more}; name a folder of transformers, timm or datafree push.")
    if file.stat().st_size > _MOST_TEXT:
        raise ValueError(f"{file} has more than {_MOST_TEXT:,} bytes; give the config of one network.")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON ({first_line(error)}); copy or make it again.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds no object; copy or make it again.")
    return found


def _downloaded(name: str) -> Path:
    """The folder of `OWNER/NAME` in the local cache, downloaded if there is a network; only configs and weights."""
    try:
        snapshot = importlib.import_module("huggingface_hub").snapshot_download
    except ImportError as error:
        raise ValueError("huggingface_hub is not installed; pip install 'datafree[hub]'.") from error
    try:
        return Path(snapshot(name, allow_patterns=[CONFIG, PREPROCESSOR, WEIGHTS, PICKLED]))
    except FOREIGN as error:
        raise ValueError(
            f"{HUB}{name} is not in the local cache and cannot be downloaded ({first_line(error)}); check the name and the "
            "network, or give a local folder."
        ) from error
