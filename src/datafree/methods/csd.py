"""CSD: customizing synthetic data for data-free student learning (Luo et al., 2023, arXiv 2307.04542).

A fresh generator is optimised for each batch until the teacher answers with chosen classes and its batch norms see what they
remember, and until a small head on the student's features can no longer tell class and rotation: images that are hard for
the student as it stands.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from datafree.augment import Augmentation
from datafree.inversion import fresh_generator, invert
from datafree.losses import kd, statistics_distance
from datafree.method import Method, Problem, Synthesizer
from datafree.modes import evaluating, frozen
from datafree.ranks import parallel, same_weights
from datafree.runtime import Runtime
from datafree.state import Counter, Stateful
from datafree.taps import calls, layer_inputs, norm_statistics
from datafree.transfer import Batch


class CSD(Method):
    """Settings of CSD; defaults are those of its code for CIFAR-10, which DDA (arXiv 2410.17606) runs as well."""

    name: Literal["csd"] = "csd"
    counted: ClassVar[tuple[str, ...]] = ("batch", "first")

    batch: PositiveInt = 200
    """Images inverted together, by one fresh generator."""
    first: NonNegativeInt = 80_000
    """Images that are made before the student is looked at."""
    first_steps: PositiveInt = 500
    """Adam steps a batch of those."""
    steps: PositiveInt = 200
    """Adam steps a batch of the later ones."""
    lr: PositiveFloat = 1e-3
    """Learning rate of the generator and its noise."""
    momentum: tuple[float, float] = (0.5, 0.999)
    """Adam's two decay rates."""
    latent: PositiveInt = 256
    """Size of the noise."""
    width: PositiveInt = 128
    """Channels of the generator's first convolutions."""
    one_hot: NonNegativeFloat = 1.0
    """Weight of the class."""
    statistics: NonNegativeFloat = 1.0
    """Weight of the distance between the batch's statistics and those that the norms remember."""
    scale_free: bool = False
    """Measure each layer's distance in shares of what it remembers (ours)."""
    hardness: PositiveFloat = 10.0
    """Weight of the head's error on class and rotation, which the images raise."""
    head_lr: PositiveFloat = 0.1
    """Learning rate of the head."""
    views: Augmentation = Augmentation(crop=4, flip=True)
    """How both networks see the images in each step of the inversion."""
    patience: NonNegativeInt = 0
    """Stop a batch when its least loss is flat over this many steps; 0: never."""
    temperature: PositiveFloat = 20.0
    """Softens both networks' logits in the student's steps."""
    augment: Augmentation = Augmentation(crop=4, flip=True)
    """How the student sees the images."""

    @property
    def adversarial(self) -> bool:
        """The later images are those that the student finds hard."""
        return True

    def rehearsal(self) -> "CSD":
        small = {"batch": min(self.batch, 8), "first": min(self.first, 8)}
        return self.model_copy(update=small | {"first_steps": min(self.first_steps, 3), "steps": min(self.steps, 3)})

    def start(self, problem: Problem, runtime: Runtime) -> "Inverter":
        """Raises `ValueError` for a teacher without batch norms that remember, a student that does not end in a linear layer,
        and sides that differ or are not multiples of 4.
        """
        problem.refuse_other_tasks("csd")
        runtime.refuse_compiled("csd")
        return Inverter(self, problem, runtime)


class Inverter(Synthesizer):
    """CSD at work: how many images it has made, and the head that judges the student."""

    def __init__(self, settings: CSD, problem: Problem, runtime: Runtime):
        self.settings, self.problem, self.runtime = settings, problem, runtime
        self.teacher = problem.teacher.folded(problem.inputs)  # for the student's steps, where no norm is read
        _, height, width = problem.inputs.shape
        if height != width:
            raise ValueError(f"csd turns images by quarters, so {height}x{width} must be square; pass --inputs, or use cmi.")
        problem.norms("csd")
        with evaluating(problem.student):
            last = calls(problem.student, runtime.noise(2, *problem.inputs.shape))[-1]
        if not isinstance(last.layer, nn.Linear):
            raise ValueError(f"csd reads what enters the student's last linear layer, and {last.name!r} is none; use cmi.")
        self.layer, features = last.name, last.layer.in_features
        self._generator()  # refuses sides that it cannot make
        outputs = 4 * problem.classes
        self.head = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, outputs)).to(runtime.device)
        self._reset_head()
        self.judge = parallel(self.head)
        self.optimizer = torch.optim.SGD(self.head.parameters(), settings.head_lr, fused=True)
        self.made = Counter()

    def synthesize(self, n: int) -> Batch:
        """n images with the classes y [n, classes], one-hot, that they were made for; then the head begins anew."""
        classes = self.problem.classes
        labels = torch.randint(classes, (n,), generator=self.runtime.random, device=self.runtime.device)
        images = [self._invert(part) for part in labels.split(self.settings.batch)]
        self._reset_head()
        return Batch(torch.cat(images), F.one_hot(labels, classes).float())

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """Knowledge distillation on augmented images, the teacher asked anew; the head takes its own step on them."""
        x = self.settings.augment(batch.x, self.runtime.random)
        with torch.no_grad():
            answer = self.teacher(x)
        self.watch(student, x, answer)
        return kd(student(x), answer, self.settings.temperature)

    def watch(self, student: nn.Module, x: Tensor, answer: Tensor) -> None:
        """One step of the head."""
        with evaluating(student), torch.no_grad():  # rotated images are not to move the student's norms
            features = self._features(student, x)
        self.runtime.minimize(self._head_loss(self.judge, features, answer.argmax(1)), self.optimizer)

    def state(self) -> dict[str, Stateful]:
        return {"head": self.head, "made": self.made}

    def _generator(self) -> nn.Module:
        return fresh_generator(self.problem.inputs.shape, self.settings.latent, self.settings.width, self.runtime)

    def _reset_head(self) -> None:
        for layer in self.head:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=self.runtime.random)
                nn.init.zeros_(layer.bias)
        same_weights(self.head)

    def _invert(self, labels: Tensor) -> Tensor:
        """Images in network units, the best iterate of the whole batch."""
        settings, inputs, student = self.settings, self.problem.inputs, self.problem.student
        generator, z = self._generator(), self.runtime.noise(len(labels), settings.latent).requires_grad_()
        early = self.made.count < settings.first
        with norm_statistics(self.problem.teacher.network) as seen, frozen(student), evaluating(student), frozen(self.head):

            def loss(x: Tensor) -> Tensor:
                x = settings.views(x, self.runtime.random)
                with self.runtime.autocast():
                    answer = self.problem.teacher(x).float()
                value = torch.zeros((), device=answer.device)
                if settings.one_hot:
                    value = value + settings.one_hot * F.cross_entropy(answer, labels)
                if settings.statistics:
                    value = value + settings.statistics * statistics_distance(seen.values(), settings.scale_free)
                if not early:
                    with self.runtime.autocast():
                        features = self._features(student, x)
                    value = value - settings.hardness * self._head_loss(self.head, features, labels)
                return value.view(1)

            best, least = invert(
                [*generator.parameters(), z],
                lambda: inputs.to_network(generator(z)),
                loss,
                self.runtime,
                steps=settings.first_steps if early else settings.steps,
                lr=settings.lr,
                momentum=settings.momentum,
                patience=settings.patience,
            )
        self.made.count += len(labels)
        self.runtime.note("inversion_loss", least.mean())
        return best

    def _features(self, student: nn.Module, x: Tensor) -> Tensor:
        """What enters the student's last layer for x turned by 0, 1, 2 and 3 quarters, [4 B, features]."""
        with layer_inputs(student, self.layer) as inside:
            student(torch.cat([x.rot90(quarters, (2, 3)) for quarters in range(4)]))
        return inside[self.layer].float()

    def _head_loss(self, head: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the head's unit-length answers to class and rotation together, 4 y + quarters."""
        joint = torch.cat([4 * labels + quarters for quarters in range(4)])
        return F.cross_entropy(F.normalize(head(features), dim=1), joint)
