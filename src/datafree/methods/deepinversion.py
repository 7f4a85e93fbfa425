"""DeepInversion (Yin et al., CVPR 2020, arXiv 1912.08795): images that the teacher is sure of, with its own statistics.

Noise is optimised until the teacher answers with a chosen class and every batch-norm layer sees the mean and variance that
it remembers of the real data; a prior keeps neighbouring pixels alike. Adaptive DeepInversion adds a term for images on
which the student does not yet agree.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from datafree.augment import Augmentation, random_roll
from datafree.inversion import invert
from datafree.losses import distillation, jensen_shannon, statistics_distance, total_variation
from datafree.method import Method, Problem, Synthesizer
from datafree.modes import evaluating, frozen
from datafree.runtime import Runtime
from datafree.state import Stateful
from datafree.taps import NormStatistics, norm_statistics
from datafree.transfer import Batch


class DeepInversion(Method):
    """Settings of DeepInversion; defaults are those of its code for CIFAR-10 ("parameters from the paper")."""

    name: Literal["deepinversion"] = "deepinversion"
    counted: ClassVar[tuple[str, ...]] = ("batch",)

    batch: PositiveInt = 256
    """Images inverted together: their common statistics are what is matched."""
    steps: PositiveInt = 2000
    """Adam steps a batch."""
    lr: PositiveFloat = 0.05
    """Learning rate of the images, in network units a step."""
    momentum: tuple[float, float] = (0.9, 0.999)
    """Adam's two decay rates."""
    statistics: NonNegativeFloat = 10.0
    """Weight of the distance between the batch's statistics and those that the norms remember."""
    scale_free: bool = False
    """Measure each layer's distance in shares of what it remembers, so that no layer outweighs another (ours)."""
    variation: NonNegativeFloat = 2.5e-5
    """Weight of the total variation."""
    magnitude: NonNegativeFloat = 0.0
    """Weight of the images' L2 norm."""
    roll: NonNegativeInt = 2
    """Most shift of the batch, in pixels and round the edges, drawn anew each step."""
    adaptive: NonNegativeFloat = 0.0
    """Weight of the student's disagreement (Adaptive DeepInversion); 0: images need no student."""
    adaptive_temperature: PositiveFloat = 3.0
    """Softens both networks' answers in that term."""
    patience: NonNegativeInt = 0
    """Stop a batch when its least loss is flat over this many steps; 0: never."""
    temperature: PositiveFloat = 4.0
    """Softens both networks' logits in the student's steps (ours)."""
    augment: Augmentation = Augmentation(crop=4, flip=True)
    """How the student sees the images (ours)."""

    @property
    def adversarial(self) -> bool:
        """Only the adaptive term looks at the student."""
        return self.adaptive > 0

    def rehearsal(self) -> "DeepInversion":
        return self.model_copy(update={"batch": min(self.batch, 8), "steps": min(self.steps, 3)})

    def start(self, problem: Problem, runtime: Runtime) -> "Inverter":
        """Raises `ValueError` for a teacher without batch norms that remember."""
        problem.refuse_other_tasks("deepinversion")
        return Inverter(self, problem, runtime)


class Inverter(Synthesizer):
    """DeepInversion at work."""

    def __init__(self, settings: DeepInversion, problem: Problem, runtime: Runtime):
        self.settings, self.problem, self.runtime = settings, problem, runtime
        self.teacher = problem.teacher.folded(problem.inputs)  # for the student's steps, where no norm is read
        problem.norms("deepinversion")

    def synthesize(self, n: int) -> Batch:
        """n images with the classes y [n, classes], one-hot, that they were made for, each equally often."""
        labels = torch.arange(n, device=self.runtime.device) % self.problem.classes
        images = [self._invert(part) for part in labels.split(self.settings.batch)]
        return Batch(torch.cat(images), F.one_hot(labels, self.problem.classes).float())

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """Knowledge distillation on augmented images, the teacher asked anew."""
        x = self.settings.augment(batch.x, self.runtime.random)
        return distillation(student, self.teacher, x, self.settings.temperature)

    def state(self) -> dict[str, Stateful]:
        """Nothing: a batch of images depends on its random numbers, and at most on the student."""
        return {}

    def _invert(self, labels: Tensor) -> Tensor:
        """Images in network units, the best iterate of the whole batch."""
        settings, inputs = self.settings, self.problem.inputs
        x = self.runtime.noise(len(labels), *inputs.shape).requires_grad_()
        low, high = (inputs.to_network(torch.full((1, *inputs.shape), v, device=x.device)) for v in (0.0, 1.0))
        student = self.problem.student
        with norm_statistics(self.problem.teacher.network) as seen, frozen(student), evaluating(student):
            best, least = invert(
                [x],
                lambda: x,
                lambda x: self._objective(x, labels, seen).view(1),
                self.runtime,
                steps=settings.steps,
                lr=settings.lr,
                momentum=settings.momentum,
                patience=settings.patience,
                after=lambda: x.clamp_(low, high),  # ours: what is kept in 8 bits could not be kept otherwise
            )
        self.runtime.note("inversion_loss", least.mean())
        return best

    def _objective(self, x: Tensor, labels: Tensor, seen: dict[str, NormStatistics]) -> Tensor:
        """The class, the statistics, the priors and the student's agreement (sections 3.2 and 3.3), a scalar."""
        settings = self.settings
        x = random_roll(x, settings.roll, self.runtime.random)
        with self.runtime.autocast():
            answer = self.problem.teacher(x)
        loss = F.cross_entropy(answer.float(), labels)
        if settings.statistics:
            loss = loss + settings.statistics * statistics_distance(seen.values(), settings.scale_free)
        if settings.variation:
            loss = loss + settings.variation * total_variation(x)
        if settings.magnitude:
            loss = loss + settings.magnitude * torch.linalg.vector_norm(x)
        if settings.adaptive:
            with self.runtime.autocast():
                own = self.problem.student(x)
            loss = loss + settings.adaptive * (1 - jensen_shannon(own, answer, settings.adaptive_temperature))
        return loss
