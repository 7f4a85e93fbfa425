"""The function `validate`: puts what a classifier does on labelled data on its card."""

import copy
from pathlib import Path

from datafree.core.runtime import find_device
from datafree.data.labelled import Labelled, labelled_for
from datafree.networks.network import Network
from datafree.networks.validation import Validation
from datafree.reports.validation import validation


def validate(
    network: Network, data: str | Labelled | None = None, *, accuracy: float | None = None, device: str = "auto"
) -> Network:
    """A network whose card says how good it is on real data, by which a student's accuracy can be estimated without any.

    Args:
        network: a classifier. It is not changed.
        data: labelled images that it was not trained on: an `.npz`, a folder, `torchvision:SET:ROOT`, or `Labelled`. The card
            gets its accuracy, that of each class, histograms of its confidence and margin, and the temperature that
            calibrates it: a few hundred numbers, from which no image can be rebuilt.
        accuracy: what a paper or a model card says, in percent, where there are no data.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...

    Returns:
        The same module with the new card.

    Raises:
        ValueError: neither or both are given, the network is no classifier, or the data cannot be read or do not fit.
    """
    card = network.card
    if (data is None) == (accuracy is None):
        raise ValueError("Give labelled data to measure the accuracy on, or the accuracy that somebody states: one of the two.")
    if card.task != "classification":
        raise ValueError(f"A validation is of a classifier, and this network is for {card.task}; leave it out.")
    if accuracy is not None:
        if not 0 <= accuracy <= 100:
            raise ValueError(f"An accuracy of {accuracy:g} is not a percentage; give one from 0 to 100.")
        found = Validation(accuracy=accuracy)
    else:
        assert data is not None
        labelled = labelled_for(data, card.inputs.shape, card.classes)
        labelled.refuse_other_task(card.task)
        where = find_device(device)
        found = validation(copy.deepcopy(network.module).to(where), labelled, card.inputs, where, Path(labelled.source).name)
    return Network(network.module, card.model_copy(update={"validation": found}))
