"""Images to calibrate int8 on, and a verdict on them before they are used."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from datafree.core.modes import evaluating
from datafree.core.runtime import Runtime
from datafree.core.spec import InputSpec
from datafree.engine.method import NoStudent, Problem
from datafree.methods.common.procedural.supply import Supplier, Supply
from datafree.networks.inside.taps import layer_inputs, norm_names
from datafree.networks.network import Network
from datafree.networks.teacher import Teacher

SPAN = 2.0  # deviations around a channel's mean that calibration should have seen
# Limits of a good set; twice as far off, or half of it, makes a bad one. Of CIFAR-10's ResNet-20, 256 of its own training
# images are 0.09 deviations off, noise 0.5; and int8 on those names another class for 5 % of procedural images, which lie near
# the borders of classes, where it does for 1 % of real ones.
EVEN, FAR, COVERED, LOSS = 0.6, 0.2, 0.8, 10.0


@dataclass(frozen=True)
class Verdict:
    """What is known of a calibration set; None where the network has nothing to measure it by."""

    images: int
    evenness: float  # entropy of the classes that the network names, as a share of the largest possible
    distance: float | None  # of the norms' input means from the stored ones, in stored deviations, mean over all channels
    covered: float | None  # share of channels of which mean +- 2 deviations lies in the range that was seen
    loss: float | None = None  # percent of held-back synthetic images of which int8 names another class than float

    @property
    def word(self) -> str:
        """good, doubtful or bad."""
        return ("good", "doubtful", "bad")[max(grade for grade, _ in self.grades())]

    def grades(self) -> list[tuple[int, str]]:
        """0 for good to 2 for bad, and what was found, one entry a measurement."""
        found = [
            (_low(self.evenness, EVEN), f"classes {100 * self.evenness:.0f} % even"),
            (_high(self.distance, FAR), f"{self.distance or 0:.2f} deviations from the norms' statistics"),
            (_low(self.covered, COVERED), f"{100 * (self.covered or 0):.0f} % of the channels' ranges covered"),
            (_high(self.loss, LOSS), f"int8 names another class for {self.loss or 0:.1f} % of images held back"),
        ]
        known = (True, self.distance is not None, self.covered is not None, self.loss is not None)
        return [each for each, measured in zip(found, known, strict=True) if measured]

    def __str__(self) -> str:
        return f"{self.word}: {', '.join(words for _, words in self.grades())} ({self.images} images)"


def _low(value: float | None, limit: float) -> int:
    return 0 if value is None or value >= limit else 1 if value >= limit / 2 else 2


def _high(value: float | None, limit: float) -> int:
    return 0 if value is None or value <= limit else 1 if value <= 2 * limit else 2


def procedural_images(network: Network, n: int, seed: int = 0) -> Tensor:
    """n procedural images [n, C, H, W] in network units, even over the network's classes as far as they allow."""
    card, runtime = network.card, Runtime("cpu", "fp32", seed)
    teacher = Teacher(network.module, card.inputs, runtime)
    problem = Problem(teacher, NoStudent(), card.inputs, card.classes, card.task)
    return Supplier(Supply(candidates=8), problem, runtime)(n)


@torch.no_grad()
def judge(network: nn.Module, inputs: InputSpec, x: Tensor) -> Verdict:
    """The verdict on images x [N, C, H, W] in network units, without the loss, which needs the int8 network."""
    names = norm_names(network)
    sums = {name: _Seen() for name in names}
    chosen: list[Tensor] = []
    with evaluating(network), layer_inputs(network, *names) as seen:
        for part in x.split(max(1, min(64, 2**22 // inputs.values))):
            logits = network(part)
            logits = logits if isinstance(logits, Tensor) else next(iter(logits.values()))
            chosen.append(logits.argmax(1).flatten())
            for name in names:
                sums[name].add(seen[name])
    classes = logits.shape[1]
    share = torch.bincount(torch.cat(chosen), minlength=classes) / sum(len(each) for each in chosen)
    most = math.log(max(2, min(classes, len(x))))
    found = [sums[name].against(network.get_submodule(name)) for name in names]
    distance = torch.cat([each[0] for each in found]).mean().item() if found else None
    covered = torch.cat([each[1] for each in found]).float().mean().item() if found else None
    return Verdict(len(x), torch.special.entr(share).sum().item() / most, distance, covered)


class _Seen:
    """Mean and range of each channel over all batches."""

    def __init__(self) -> None:
        self.total, self.count = torch.zeros(()), 0
        self.low, self.high = torch.full((), math.inf), torch.full((), -math.inf)

    def add(self, x: Tensor) -> None:
        flat = x.float().transpose(0, 1).flatten(1)
        self.total, self.count = self.total + flat.sum(1), self.count + flat.shape[1]
        self.low, self.high = torch.minimum(self.low, flat.amin(1)), torch.maximum(self.high, flat.amax(1))

    def against(self, norm: nn.Module) -> tuple[Tensor, Tensor]:
        """Distance of each channel's mean in stored deviations, and whether its stored range lies in what was seen."""
        mean, deviation = norm.running_mean, (norm.running_var + norm.eps).sqrt()  # type: ignore[operator]
        assert isinstance(mean, Tensor)
        assert isinstance(deviation, Tensor)
        inside = (self.low <= mean - SPAN * deviation) & (self.high >= mean + SPAN * deviation)
        return (self.total / self.count - mean).abs() / deviation, inside
