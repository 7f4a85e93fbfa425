"""Accuracy or mIoU of a network on labelled data, and its agreement with another network."""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.core.modes import evaluating
from datafree.core.spec import InputSpec
from datafree.data.labelled import Labelled
from datafree.networks.outputs import logits_of


@dataclass(frozen=True)
class Score:
    """Score of a network: accuracy over images, or intersection over union as a mean over classes and of each class."""

    name: str  # `accuracy` or `miou`
    percent: float
    each: tuple[float, ...] = ()  # IoU of each class, percent; NaN for a class that is neither present nor predicted
    names: tuple[str, ...] = ()  # of the classes
    images: int = 0  # evaluated
    agreement: float | None = None  # percent of images or pixels for which this and another network predict the same class
    right_apart: float | None = None  # percent of those for which they do not on which this network is right
    other_right_apart: float | None = None  # and on which the other is

    def rounded(self) -> tuple[float | None, ...]:
        """`each`, percent, to two decimals, with None for NaN."""
        return tuple(None if math.isnan(value) else round(value, 2) for value in self.each)

    @property
    def accuracy(self) -> float:
        """The accuracy, percent. Raises `AttributeError` if this score is a mIoU."""
        if self.name != "accuracy":
            raise AttributeError(f"This score is a {self.name}, not an accuracy; read percent.")
        return self.percent


def format_score(score: Score) -> str:
    """The score as text: `accuracy 91.73 %` or `mIoU 45.10 %`."""
    return f"{ {'miou': 'mIoU'}.get(score.name, score.name) } {score.percent:.2f} %"


@torch.no_grad()
def predictions(network: nn.Module, pixels: Tensor, inputs: InputSpec, device: torch.device, batch: int = 1000) -> Tensor:
    """Predicted classes for uint8 pixels [N, C, H, W]: [N], int64, one an image, or [N, H, W], uint8, one a pixel, on the CPU.

    Logits of another size than the inputs are first resized to it, bilinearly. The network's modes are restored.
    """
    batch = max(1, min(batch, batch * 1024 // (inputs.shape[1] * inputs.shape[2])))
    with evaluating(network):
        outputs = (logits_of(network(inputs.to_network(part.to(device)))) for part in pixels.split(batch))
        return torch.cat([_predicted(logits, inputs).cpu() for logits in outputs])


def _predicted(logits: object, inputs: InputSpec) -> Tensor:
    assert isinstance(logits, Tensor)
    if logits.dim() == 4 and logits.shape[2:] != inputs.shape[1:]:
        logits = F.interpolate(logits.float(), size=inputs.shape[1:], mode="bilinear", align_corners=False)
    classes = logits.argmax(1)
    return classes if logits.dim() == 2 else classes.to(torch.uint8)


def percent(hits: Tensor) -> float:
    """Share of True in a boolean tensor, in percent."""
    return 100 * int(hits.sum()) / hits.numel()


def score(predicted: Tensor, data: Labelled) -> Score:
    """Score of the predicted classes [N] or [N, H, W]: accuracy if `data` has a label an image, mIoU if it has one a pixel."""
    if data.labels.dim() == 1:
        return Score("accuracy", percent(predicted == data.labels), images=len(predicted))
    each = 100 * intersection_over_union(confusion(predicted, data.labels, data.classes, data.void))
    return Score("miou", each.nanmean().item(), tuple(each.tolist()), data.names, images=len(predicted))


def compared(found: Score, one: Tensor, other: Tensor, data: Labelled) -> Score:
    """`found`, the score of the predicted classes `one`, with what they have in common with those of another network.

    With d, the share on which they differ, the accuracies (of images or pixels) are exactly
    acc_one = acc_other - d (other_right_apart - right_apart), so that they are d apart at most.

    Raises `ValueError` if one network predicts a class an image and the other a class a pixel, or for images of another size.
    """
    if one.shape != other.shape:
        raise ValueError(
            f"One network predicts classes {list(one.shape)} and the other {list(other.shape)}; compare networks of the same "
            "task, and for segmentation of the same input size."
        )
    apart = one != other if data.void is None else (one != other) & (data.labels != data.void)
    counted = one.numel() if data.void is None else int((data.labels != data.void).sum())
    rights = [percent((each == data.labels)[apart]) for each in (one, other)] if apart.any() else [None, None]
    return replace(
        found, agreement=100 - 100 * int(apart.sum()) / max(1, counted), right_apart=rights[0], other_right_apart=rights[1]
    )


def confusion(predicted: Tensor, labels: Tensor, classes: int, void: int | None) -> Tensor:
    """Confusion matrix [classes, classes] over the pixels of all images, labels by predictions, without void pixels."""
    total = torch.zeros(classes * classes, dtype=torch.int64)
    for some, true in zip(predicted.split(64), labels.split(64), strict=True):
        counted = torch.ones_like(true, dtype=torch.bool) if void is None else true != void
        total += torch.bincount(true[counted].long() * classes + some[counted].long(), minlength=classes * classes)
    return total.view(classes, classes)


def intersection_over_union(counts: Tensor) -> Tensor:
    """IoU of each class, [classes] in [0, 1], from a confusion matrix; NaN for a class neither present nor predicted."""
    hits = counts.diagonal().double()
    return hits / (counts.sum(0) + counts.sum(1) - hits)
