"""How good a network is on labelled data, and how far it agrees with another: by image or by pixel."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.core.modes import evaluating
from datafree.core.spec import InputSpec
from datafree.data.labelled import Labelled
from datafree.networks.outputs import logits_of


@dataclass(frozen=True)
class Score:
    """Percent: of images (`accuracy`), or the mean over classes of intersection over union (`miou`), and each class's."""

    name: str
    percent: float
    each: tuple[float, ...] = ()  # NaN for a class that is neither there nor predicted
    names: tuple[str, ...] = ()
    images: int = 0
    agreement: float | None = None  # percent of images or pixels for which two networks choose the same

    def rounded(self) -> tuple[float | None, ...]:
        """`each` to two decimals, None for NaN."""
        return tuple(None if math.isnan(value) else round(value, 2) for value in self.each)

    @property
    def accuracy(self) -> float:
        """`percent`, where it is one. Raises `AttributeError` where pixels were judged."""
        if self.name != "accuracy":
            raise AttributeError(f"This score is a {self.name}, not an accuracy; ask for percent.")
        return self.percent


def format_score(score: Score) -> str:
    """`accuracy 91.73 %`, `mIoU 45.10 %`."""
    return f"{ {'miou': 'mIoU'}.get(score.name, score.name) } {score.percent:.2f} %"


@torch.no_grad()
def predictions(network: nn.Module, pixels: Tensor, inputs: InputSpec, device: torch.device, batch: int = 1000) -> Tensor:
    """First choice of `network` for uint8 pixels [N, C, H, W], one an image [N] or a pixel [N, H, W], on the CPU.

    Answers of another size than the input are first enlarged to it, bilinearly. The network's modes are restored.
    """
    batch = max(1, min(batch, batch * 1024 // (inputs.shape[1] * inputs.shape[2])))
    with evaluating(network):
        answers = (logits_of(network(inputs.to_network(part.to(device)))) for part in pixels.split(batch))
        return torch.cat([_choice(answer, inputs).cpu() for answer in answers])


def _choice(answer: object, inputs: InputSpec) -> Tensor:
    assert isinstance(answer, Tensor)
    if answer.dim() == 4 and answer.shape[2:] != inputs.shape[1:]:
        answer = F.interpolate(answer.float(), size=inputs.shape[1:], mode="bilinear", align_corners=False)
    chosen = answer.argmax(1)
    return chosen if answer.dim() == 2 else chosen.to(torch.uint8)


def percent(hits: Tensor) -> float:
    """Share of True in a boolean tensor, in percent."""
    return 100 * int(hits.sum()) / hits.numel()


def score(chosen: Tensor, data: Labelled) -> Score:
    """How good the choices are: accuracy where `data` has a label an image, mIoU where it has one a pixel."""
    if data.labels.dim() == 1:
        return Score("accuracy", percent(chosen == data.labels), images=len(chosen))
    each = 100 * intersection_over_union(confusion(chosen, data.labels, data.classes, data.void))
    return Score("miou", each.nanmean().item(), tuple(each.tolist()), data.names, images=len(chosen))


def confusion(chosen: Tensor, labels: Tensor, classes: int, void: int | None) -> Tensor:
    """Counts [classes, classes] of every pixel, truth by choice, of all images together; void pixels are left out."""
    total = torch.zeros(classes * classes, dtype=torch.int64)
    for some, true in zip(chosen.split(64), labels.split(64), strict=True):
        known = torch.ones_like(true, dtype=torch.bool) if void is None else true != void
        total += torch.bincount(true[known].long() * classes + some[known].long(), minlength=classes * classes)
    return total.view(classes, classes)


def intersection_over_union(counts: Tensor) -> Tensor:
    """IoU of each class [classes], in [0, 1], of a confusion matrix; NaN where a class is neither there nor chosen."""
    hits = counts.diagonal().double()
    return hits / (counts.sum(0) + counts.sum(1) - hits)
