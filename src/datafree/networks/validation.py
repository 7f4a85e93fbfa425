"""What a network did on real labelled data: a few hundred numbers on its card, from which no image can be rebuilt."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from datafree.core.settings import Settings

EDGES = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)  # between the bins of confidences, and of margins
MOST_CLASSES = 1000  # whose accuracies are kept, one by one
MOST_HISTOGRAMS = 50  # classes that have histograms of their own
MOST_FEATURES = 512  # whose mean and variance are kept
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
    confidence_each: Annotated[tuple[Shares, ...], Field(max_length=MOST_HISTOGRAMS)] = ()
    """The same for the images of each true class, of at most 50 classes; empty for a class without images."""
    margin_each: Annotated[tuple[Shares, ...], Field(max_length=MOST_HISTOGRAMS)] = ()
    """And of the margin."""
    feature_mean: Annotated[tuple[float, ...], Field(max_length=MOST_FEATURES)] = ()
    """Mean of each input of the last linear layer, if the network ends in one, of at most 512."""
    feature_variance: Annotated[tuple[NonNegativeFloat, ...], Field(max_length=MOST_FEATURES)] = ()
    """And its variance."""
    temperature: PositiveFloat | None = None
    """Divides the logits so that the probabilities fit the labels best (Guo et al., ICML 2017, arXiv 1706.04599)."""
    entropy: NonNegativeFloat | None = None
    """Entropy of the predicted classes, as a share of the largest possible."""
