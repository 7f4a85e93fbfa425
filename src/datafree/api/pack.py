"""The function `pack`: a `Network` from weights on disk, an architecture and an input description."""

from collections.abc import Collection, Mapping
from pathlib import Path

from datafree.core.settings import Option
from datafree.core.spec import InputSpec
from datafree.networks.build import timm_description
from datafree.networks.estimate import refuse_costly
from datafree.networks.network import Card, Network, from_card
from datafree.networks.outputs import TASKS, probe, refuse_broken
from datafree.networks.weights import read_weights, refuse_non_finite


def pack(
    weights: str | Path,
    architecture: str,
    inputs: InputSpec | None = None,
    classes: int | None = None,
    options: Mapping[str, Option] | None = None,
    allow_code: Collection[str] = (),
) -> Network:
    """Make a `Network` from weights on disk, an architecture and an input description.

    Args:
        weights: a safetensors file, or a `.pt`, `.pth` or `.th` state dict, also nested under `state_dict` or `model`.
        architecture: a name from `ARCHITECTURES` (`resnet20`), `timm:NAME`, or `package.module:factory`.
        inputs: shape and scaling of one input; None: that of timm's `pretrained_cfg`.
        classes: number of classes; None: that of timm's `pretrained_cfg`.
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
    state = read_weights(weights)
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
