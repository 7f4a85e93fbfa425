"""The verb `evaluate`: how good a network is on labelled data, and how often it agrees with another."""

import copy
from collections.abc import Collection
from dataclasses import replace

from torch import Tensor

from datafree.core.runtime import find_device
from datafree.core.spec import InputSpec
from datafree.data.labelled import Labelled, labelled_for
from datafree.networks.network import Network
from datafree.networks.sources import Source, as_network
from datafree.reports.metrics import Score, percent, predictions, score


def evaluate(
    network: Source,
    data: str | Labelled,
    *,
    inputs: InputSpec | None = None,
    against: Source | None = None,
    device: str = "auto",
    allow_code: Collection[str] = (),
) -> Score:
    """Accuracy of `network` on labelled data, or mIoU where each pixel has a label, and its agreement with `against`.

    `data` is as on the command line (see `load_labelled`). Raises `ValueError` where it does not fit the network.
    """
    taught = as_network(network, inputs, allow_code)
    labelled = labelled_for(data, taught.card.inputs.shape, taught.card.classes)
    chosen = _predict(taught, labelled, device)
    found = score(chosen, labelled)
    if against is None:
        return found
    other = as_network(against, inputs, allow_code)
    judged = labelled_for(data, other.card.inputs.shape, other.card.classes)
    return replace(found, agreement=percent(_predict(other, judged, device) == chosen))


def _predict(taught: Network, labelled: Labelled, device: str) -> Tensor:
    """First choices [N], or [N, H, W]."""
    where = find_device(device)
    module = copy.deepcopy(taught.module).to(where)  # where the caller keeps his own is not ours to change
    return predictions(module, labelled.pixels, taught.card.inputs, where)
