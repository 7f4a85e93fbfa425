"""The function `pack`: a `Network` from weights on disk, an architecture and an input description."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from datafree.core.settings import Option
from datafree.core.spec import InputSpec
from datafree.networks.building.build import timm_description
from datafree.networks.building.named import TORCHVISION, torchvision_description
from datafree.networks.building.work import refuse_costly
from datafree.networks.folders import is_folder, load_folder
from datafree.networks.missing import complete, said
from datafree.networks.network import Card, Network, from_card
from datafree.networks.outputs import TASKS, probe, refuse_broken
from datafree.networks.programs.files import kind_of
from datafree.networks.saved.choice import Choice
from datafree.networks.saved.weights import read_checkpoint, refuse_non_finite
from datafree.networks.whole import load_whole

_ARTICLES = {"p": "a ", "O": "an "}  # before the kinds of files of whole networks, by their first letters


def pack(
    weights: str | Path,
    architecture: str | None = None,
    inputs: InputSpec | None = None,
    classes: int | None = None,
    options: Mapping[str, Option] | None = None,
    allow_code: Collection[str] = (),
    which: str | None = None,
    *,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> Network:
    """Make a `Network` from weights on disk, an architecture and an input description, or from a whole network without code.

    Args:
        weights: a safetensors file, or one of `torch.save` that holds a state dict anywhere in it, whatever stands before all
            its names (docs/checkpoints.md); or a whole network without code: a program of `torch.export`, an ONNX file,
            TorchScript; or a folder of transformers or timm, or `hf-hub:OWNER/NAME`.
        architecture: a name from `ARCHITECTURES` (`resnet20`), `timm:NAME`, `torchvision:NAME`, `package.module:factory`, or
            `file.py:factory`; None for a whole network or a folder, which say it.
        inputs: shape and scaling of one input; None: that of timm's `pretrained_cfg`, of the transforms of torchvision's
            weights, of the folder, or the shape that a program says; else the channels of the first layer, and the only usual
            square size that fits the weights, of pixels in [0, 1].
        classes: number of classes; None: as many as the last layer has, or as those say.
        options: keyword arguments of the factory.
        allow_code: packages whose code may be imported and called to build the network; this package and timm need not be
            named.
        which: `ema` or `model`: the averaged or the ordinary weights of a checkpoint that has both, or the place of one of
            several in it, as `student` or `state_dict/model`; None: the averaged ones, if there are any.
        mean: of each channel of pixels in [0, 1], for the shape that is found, where `inputs` is None.
        std: the standard deviation, likewise.

    Returns:
        The network, in eval mode, ready to save. The last entry of its card's history says what was taken of the file.

    Raises:
        ValueError: the file is of another type, holds no state dict or needs code to be read, has no weights that are
            `which`, or several that fit; the network cannot be built, its keys do not fit the weights, no size or several
            sizes of inputs fit them, a weight or an answer is not finite, a pass costs too much
            (`networks/building/work.py`), or the network returns another number of classes.
    """
    if is_folder(weights):
        return _folder(weights, architecture, inputs, classes, allow_code)
    if Path(weights).is_file() and (kind := kind_of(Path(weights))):
        return _whole(weights, kind, architecture, inputs, classes, allow_code, mean, std)
    checkpoint = read_checkpoint(weights)
    if architecture is None:
        raise ValueError(f"{weights} holds weights and no architecture; name it with --arch: resnet20, timm:NAME, ...")
    notes: tuple[str, ...] = ()
    if inputs is None or classes is None:
        described, usual = _description(architecture)
        shape = inputs.shape if inputs else described.shape if described else None
        given = shape is not None
        shape, found = complete(architecture, options or {}, checkpoint, shape, classes, usual, allow_code)
        described = described or InputSpec(shape=shape)
        inputs = inputs or InputSpec(shape=shape, mean=mean or described.mean, std=std or described.std)
        notes = tuple(said(inputs, found, (given, found in (classes, usual))))
        classes = found
    card = Card(
        architecture=architecture,
        options=dict(options or {}),
        classes=classes,
        inputs=inputs,
    )
    choice = Choice(checkpoint, which, weights)
    packed = from_card(card, checkpoint.largest, weights, allow_code, choice)
    refuse_non_finite(packed.module, str(weights))
    refuse_costly("network", packed.module, inputs)
    logits = probe("network", packed.module, inputs)
    refuse_broken("network", packed.module, inputs, logits)
    event = {"event": "packed", "from": Path(weights).name, **choice.report()}
    card = card.model_copy(update={"task": TASKS[logits.dim()], "history": (event,)})
    card.check(logits)
    return Network(packed.module, card, notes)


def _description(architecture: str) -> tuple[InputSpec | None, int | None]:
    """Inputs and number of classes as the library of an architecture describes them; None and None where it has no such."""
    if architecture.startswith(TORCHVISION):
        return torchvision_description(architecture.removeprefix(TORCHVISION))
    if architecture.startswith("timm:"):
        return timm_description(architecture.removeprefix("timm:"))
    return None, None


def _whole(
    file: str | Path,
    kind: str,
    architecture: str | None,
    inputs: InputSpec | None,
    classes: int | None,
    allow_code: Collection[str],
    mean: Sequence[float],
    std: Sequence[float],
) -> Network:
    """The whole network in a file. Raises as `pack` does."""
    if architecture is not None:
        raise ValueError(f"{file} is {_ARTICLES.get(kind[0], '')}{kind}, which is a whole network; leave --arch out.")
    packed = load_whole(file, kind, allow_code, inputs, mean, std)
    refuse_non_finite(packed.module, str(file))
    logits = probe("network", packed.module, packed.card.inputs)
    refuse_broken("network", packed.module, packed.card.inputs, logits)
    if classes is not None and classes != packed.card.classes:
        raise ValueError(f"{file} returns {packed.card.classes} classes, not {classes}; leave --classes out.")
    history = ({"event": "packed", "from": Path(file).name, "kind": kind},)
    return Network(packed.module, packed.card.model_copy(update={"history": history}), packed.notes)


def _folder(
    folder: str | Path, architecture: str | None, inputs: InputSpec | None, classes: int | None, allow_code: Collection[str]
) -> Network:
    """The network in a folder. Raises as `pack` does."""
    if architecture is not None:
        raise ValueError(f"{folder} says its own architecture; leave --arch out.")
    packed = load_folder(folder, inputs, allow_code)
    refuse_non_finite(packed.module, str(folder))
    refuse_costly("network", packed.module, packed.card.inputs)
    logits = probe("network", packed.module, packed.card.inputs)
    refuse_broken("network", packed.module, packed.card.inputs, logits)
    packed.card.check(logits)
    if classes is not None and classes != packed.card.classes:
        raise ValueError(f"{folder} returns {packed.card.classes} classes, not {classes}; leave --classes out.")
    return packed
