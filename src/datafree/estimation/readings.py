"""What a student and its teacher answer to probes: how often they agree, and how near to a border the teacher's answers lie."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from datafree.core.modes import evaluating
from datafree.core.spec import InputSpec
from datafree.estimation.adversary import pushed
from datafree.estimation.probes import SEED, STAGES, Probes
from datafree.networks.outputs import logits_of

BATCH = 250
PUSHED = "late"  # family that an adversary changes; `pushed` is the reading of what comes of it
NUDGE = 0.2  # deviation of the noise that disturbs a probe, network units


@dataclass(frozen=True)
class Reading:
    """One family of probes: shares in [0, 1], and how many images they are of."""

    images: int
    agreement: float  # of images for which student and teacher name the same class
    overlap: float  # of probability that both give to the same classes, mean over images
    correlation: float  # of the two networks' logits over the classes, mean over images
    steadiness: float  # of images for which the teacher names the same class after a nudge and a shift by a pixel
    teacher_evenness: float  # entropy of the classes that the teacher names, as a share of the largest possible
    student_evenness: float  # and of those that the student names
    teacher_hits: float = 0.0  # of images that the teacher calls the class they were made for, where they were
    student_hits: float = 0.0  # and of those that the student calls so


@dataclass(frozen=True)
class ClassReading:
    """One class over all probes."""

    teacher: int  # images that the teacher calls it
    student: int  # images that the student calls it
    both: int  # images that both call it


@dataclass(frozen=True)
class Readings:
    """What two networks answered, by family and by class."""

    families: dict[str, Reading]
    classes: tuple[ClassReading, ...]


@torch.no_grad()
def read(teacher: nn.Module, student: nn.Module, probes: Probes, inputs: InputSpec, device: torch.device) -> Readings:
    """The readings of two networks on `device`, whose modes are restored."""
    families: dict[str, Reading] = {}
    counts: list[Tensor] = []
    with evaluating(teacher), evaluating(student):
        for name, pixels in probes.families.items():
            answers = [_answers(teacher, student, part) for part in _batches(pixels, inputs, device)]
            ours, theirs, nudged = (torch.cat(each) for each in zip(*answers, strict=True))
            families[name] = _reading(ours, theirs, nudged, probes.aims if name in STAGES else None)
            counts.append(_counts(ours.argmax(1), theirs.argmax(1), ours.shape[1]))
        worst = [pushed(teacher, student, part) for part in _batches(probes.families[PUSHED], inputs, device)]
        answers = [_answers(teacher, student, part) for part in worst]
        ours, theirs, nudged = (torch.cat(each) for each in zip(*answers, strict=True))
        families["pushed"] = _reading(ours, theirs, nudged, None)
    total = torch.stack(counts).sum(0)
    return Readings(families, tuple(ClassReading(*row) for row in total.tolist()))


def _batches(pixels: Tensor, inputs: InputSpec, device: torch.device) -> Iterator[Tensor]:
    """Images in network units on `device`."""
    return (inputs.to_network(part.to(device)) for part in pixels.split(BATCH))


def _answers(teacher: nn.Module, student: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [n, classes] of the teacher and the student, and the teacher's for disturbed images, on the CPU."""
    random = torch.Generator().manual_seed(SEED)
    nudge = NUDGE * torch.randn(x.shape, generator=random).to(x.device)
    return _logits(teacher, x), _logits(student, x), _logits(teacher, x.roll((1, 1), (2, 3)) + nudge)


def _logits(network: nn.Module, x: Tensor) -> Tensor:
    logits = logits_of(network(x))
    assert isinstance(logits, Tensor)
    return logits.float().cpu()


def _reading(teacher: Tensor, student: Tensor, nudged: Tensor, aims: Tensor | None) -> Reading:
    named, other = teacher.argmax(1), student.argmax(1)
    shared = torch.minimum(teacher.softmax(1), student.softmax(1)).sum(1)
    ours, theirs = (z - z.mean(1, keepdim=True) for z in (teacher, student))
    correlation = torch.cosine_similarity(ours, theirs, dim=1)
    return Reading(
        images=len(named),
        agreement=(named == other).float().mean().item(),
        overlap=shared.mean().item(),
        correlation=correlation.mean().item(),
        steadiness=(named == nudged.argmax(1)).float().mean().item(),
        teacher_evenness=evenness(named, teacher.shape[1]),
        student_evenness=evenness(other, teacher.shape[1]),
        teacher_hits=0.0 if aims is None else (named == aims).float().mean().item(),
        student_hits=0.0 if aims is None else (other == aims).float().mean().item(),
    )


def evenness(named: Tensor, classes: int) -> float:
    """Entropy of the classes [N] that were named, as a share of the largest that so many images can have."""
    share = torch.bincount(named, minlength=classes) / len(named)
    return float(torch.special.entr(share).sum()) / math.log(max(2, min(classes, len(named))))


def _counts(named: Tensor, other: Tensor, classes: int) -> Tensor:
    """For each class the images that the teacher, the student and both call it, [classes, 3]."""
    each = (named, other, named[named == other])
    return torch.stack([torch.bincount(values, minlength=classes) for values in each], 1)
