"""The function `pack`: a `Network` from weights on disk, an architecture and an input description."""

from collections.abc import Collection, Mapping
from pathlib import Path

from datafree.core.settings import Option
from datafree.core.spec import InputSpec
from datafree.networks.build import timm_description
from datafree.networks.choice import Choice
from datafree.networks.estimate import refuse_costly
from datafree.networks.network import Card, Network, from_card
from datafree.networks.outputs import TASKS, probe, refuse_broken
from datafree.networks.weights import read_checkpoint, refuse_non_finite


def pack(
    weights: str | Path,
    architecture: str,
    inputs: InputSpec | None = None,
    classes: int | None = None,
    options: Mapping[str, Option] | None = None,
    allow_code: Collection[str] = (),
    which: str | None = None,
) -> Network:
    """Make a `Network` from weights on disk, an architecture and an input description.

    Args:
        weights: a safetensors file, or one of `torch.save` that holds a state dict anywhere in it, whatever stands before all
            its names (docs/checkpoints.md).
        architecture: a name from `ARCHITECTURES` (`resnet20`), `timm:NAME`, or `package.module:factory`.
        inputs: shape and scaling of one input; None: that of timm's `pretrained_cfg`.
        classes: number of classes; None: that of timm's `pretrained_cfg`.
        options: keyword arguments of the factory.
        allow_code: packages whose code may be imported and called to build the network; this package and timm need not be
            named.
        which: `ema` or `model`: the averaged or the ordinary weights of a checkpoint that has both, or the place of one of
            several in it, as `student` or `state_dict/model`; None: the averaged ones, if there are any.

    Returns:
        The network, in eval mode, ready to save. The last entry of its card's history says what was taken of the file.

    Raises:
        ValueError: the file is of another type, holds no state dict or needs code to be read, has no weights that are
            `which`, or several that fit; the network cannot be built, its keys do not fit the weights, a description is
            missing, a weight or an answer is not finite, a pass is beyond the limits of `networks/estimate.py`, or the network
            returns another number of classes.
    """
    checkpoint = read_checkpoint(weights)
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
    return Network(packed.module, card)
