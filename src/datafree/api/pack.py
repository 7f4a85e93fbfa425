"""The verb `pack`: weights on disk plus what they are, as a network file."""

from collections.abc import Collection, Mapping
from pathlib import Path

from datafree.core.spec import InputSpec
from datafree.networks.build import Option, timm_description
from datafree.networks.network import Card, Network, from_card
from datafree.networks.outputs import TASKS, probe
from datafree.networks.weights import read_weights


def pack(
    weights: str | Path,
    architecture: str,
    inputs: InputSpec | None = None,
    classes: int | None = None,
    options: Mapping[str, Option] | None = None,
    allow_code: Collection[str] = (),
) -> Network:
    """Weights on disk plus what they are, as a `Network` ready to save.

    `inputs` and `classes` may be left out for timm's networks, whose `pretrained_cfg` knows them. Raises `ValueError`
    for missing, unexpected or misshapen keys, and for a file that needs unpickling code.
    """
    state = read_weights(weights)
    if architecture.startswith("timm:") and (inputs is None or classes is None):
        known_inputs, known_classes = timm_description(architecture.removeprefix("timm:"))
        inputs, classes = inputs or known_inputs, classes or known_classes
    if inputs is None or classes is None:
        missing = "--inputs" if inputs is None else "--classes"
        raise ValueError(f"{architecture} does not say what it takes; pass {missing}.")
    card = Card(
        architecture=architecture,
        options=dict(options or {}),
        classes=classes,
        inputs=inputs,
        history=({"event": "packed", "from": Path(weights).name},),
    )
    packed = from_card(card, state, weights, allow_code)
    task = TASKS[probe("network", packed.module, inputs).dim()]
    return Network(packed.module, card.model_copy(update={"task": task}))
