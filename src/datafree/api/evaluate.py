"""The function `evaluate`: accuracy or mIoU of a network on labelled data, and its agreement with another."""

import copy
from collections.abc import Collection

from torch import Tensor

from datafree.core.runtime import find_device
from datafree.core.spec import InputSpec
from datafree.data.labelled import Labelled, labelled_for
from datafree.networks.network import Network
from datafree.networks.outputs import explained
from datafree.networks.sources import Source, as_network
from datafree.reports.metrics import Score, compared, predictions, score


def evaluate(
    network: Source,
    data: str | Labelled,
    *,
    inputs: InputSpec | None = None,
    against: Source | None = None,
    device: str = "auto",
    allow_code: Collection[str] = (),
) -> Score:
    """Evaluate a network on labelled data: accuracy, or mIoU if each pixel has a label, and agreement with another network.

    Args:
        network: a module that returns logits [B, classes] or [B, classes, H, W] for inputs [B, C, H, W] in network units, a
            `Network`, or the path of a network file or a whole network without code. It is not changed.
        data: labelled data: an `.npz`, a folder, or `torchvision:SET:ROOT`, as on the command line, or `Labelled`.
        inputs: shape and scaling of one input; needed for a plain module, and replaces those of a card.
        against: another network, in any of these forms, for the agreement.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        allow_code: packages whose code may be imported and called to build the networks.

    Returns:
        The score in percent: `percent`, `each` class for segmentation, and with `against` the `agreement`, the share of images
        or labelled pixels for which both networks predict the same class, and how often each is right where they do not.

    Raises:
        ValueError: the data or a network cannot be read, or they do not fit each other or are of other tasks.
    """
    one = as_network(network, inputs, allow_code)
    labelled = labelled_for(data, one.card.inputs.shape, one.card.classes)
    labelled.refuse_other_task(one.card.task)
    predicted = _predict(one, labelled, device)
    found = score(predicted, labelled)
    if against is None:
        return found
    other = as_network(against, inputs, allow_code)
    resized = labelled_for(data, other.card.inputs.shape, other.card.classes)
    return compared(found, predicted, _predict(other, resized, device), labelled)


def _predict(network: Network, labelled: Labelled, device: str) -> Tensor:
    """Predicted classes [N], or [N, H, W] for segmentation."""
    where = find_device(device)
    module = copy.deepcopy(network.module).to(where)  # a copy, since the caller's module must stay on its device
    with explained("network", module, network.card.inputs):
        return predictions(module, labelled.pixels, network.card.inputs, where)
