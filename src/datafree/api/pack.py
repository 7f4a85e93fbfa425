"""The function `pack`: a `Network` from weights on disk, an architecture and an input description."""

from collections.abc import Collection, Mapping
from pathlib import Path

from datafree.core.settings import Option
from datafree.core.spec import InputSpec
from datafree.networks.build import timm_description
from datafree.networks.estimate import refuse_costly
from datafree.networks.folders import is_folder, load_folder
from datafree.networks.named import TORCHVISION, torchvision_description
from datafree.networks.network import Card, Network, from_card
from datafree.networks.outputs import TASKS, probe, refuse_broken
from datafree.networks.weights import read_weights, refuse_non_finite


def pack(
    weights: str | Path,
    architecture: str | None = None,
    inputs: InputSpec | None = None,
    classes: int | None = None,
    options: Mapping[str, Option] | None = None,
    allow_code: Collection[str] = (),
) -> Network:
    """Make a `Network` from weights on disk, an architecture and an input description.

    Args:
        weights: a safetensors file, or a `.pt`, `.pth` or `.th` state dict, also nested under `state_dict` or `model`.
            Or a folder of transformers, timm or `datafree push`, or `hf-hub:OWNER/NAME`.
        architecture: a name from `ARCHITECTURES` (`resnet20`), `timm:NAME`, `torchvision:NAME`, `package.module:factory`, or
            `file.py:factory`; None for a folder, which says it.
        inputs: shape and scaling of one input; None: that of timm's `pretrained_cfg`, of the transforms of torchvision's
            weights, or of the folder.
        classes: number of classes; None: as many as those say.
        options: keyword arguments of the factory.
        allow_code: packages whose code may be imported and called to build the network; this package and timm need not be
            named.

    Returns:
        The network, in eval mode, ready to save.

    Raises:
        ValueError: the file holds no state dict or needs code to be read, the network cannot be built, its keys do not fit the
            weights, a description is missing, a weight or an answer is not finite, a pass is beyond the limits of
            `networks/estimate.py`, or the network returns another number of classes.
    """
    if is_folder(weights):
        return _folder(weights, architecture, inputs, classes, allow_code)
    if architecture is None:
        raise ValueError(f"{weights} holds weights and no architecture; name it with --arch: resnet20, timm:NAME, ...")
    state = read_weights(weights)
    if architecture.startswith(TORCHVISION) and (inputs is None or classes is None):
        known_inputs, known_classes = torchvision_description(architecture.removeprefix(TORCHVISION))
        inputs, classes = inputs or known_inputs, classes or known_classes
    if architecture.startswith("timm:") and (inputs is None or classes is None):
        timm_inputs, timm_classes = timm_description(architecture.removeprefix("timm:"))
        inputs, classes = inputs or timm_inputs, classes or timm_classes
    if inputs is None or classes is None:
        missing = "--inputs" if inputs is None else "--classes"
        raise ValueError(f"{architecture} has no description of its inputs and classes; pass {missing}.")
    card = Card(
        architecture=architecture,
        options=dict(options or {}),
        classes=classes,
        inputs=inputs,
        history=({"event": "packed", "from": Path(weights).name},),
    )
    packed = from_card(card, state, weights, allow_code)
    refuse_non_finite(packed.module, str(weights))
    refuse_costly("network", packed.module, inputs)
    logits = probe("network", packed.module, inputs)
    refuse_broken("network", packed.module, inputs, logits)
    card = card.model_copy(update={"task": TASKS[logits.dim()]})
    card.check(logits)
    return Network(packed.module, card)


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
