"""What a network did on real labelled data: a few hundred numbers on its card, from which no image can be rebuilt."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from datafree.core.settings import Settings

EDGES = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)  # between the bins of confidences, and of margins
MOST_CLASSES = 1000  # whose accuracies are kept, one by one
Share = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
Shares = Annotated[tuple[Share, ...], Field(max_length=len(EDGES) + 1)]


class Validation(Settings):
    """The fingerprint of a classifier's answers to real images that it was not trained on."""

    accuracy: Percent
    """Percent of the images."""
    source: str = Field("stated", max_length=200)
    """Name of the data; `stated` if a person gave the accuracy, and nothing was measured."""
    images: NonNegativeInt = 0
    """Images that were looked at."""
    each: Annotated[tuple[Percent | None, ...], Field(max_length=MOST_CLASSES)] = ()
    """Accuracy of each class, percent; None for one without images."""
    confidence: Shares = ()
    """Share of the images in each bin of the largest probability, by `EDGES`."""
    margin: Shares = ()
    """Share of the images in each bin of the difference of the two largest probabilities."""
    temperature: PositiveFloat | None = None
    """Divides the logits so that the probabilities fit the labels best (Guo et al., ICML 2017, arXiv 1706.04599)."""
    entropy: NonNegativeFloat | None = None
    """Entropy of the predicted classes, as a share of the largest possible."""
