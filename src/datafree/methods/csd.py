"""CSD: customizing synthetic data for data-free student learning (Luo et al., 2023, arXiv 2307.04542).

For each batch a new generator and its noise are optimised: the teacher should predict the chosen classes, the inputs of its
batch norms should have the running statistics, and a small head on the student's features should fail to predict class and
rotation. The images are thus hard for the current student.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor, nn

from datafree.core.distributed import parallel, same_weights
from datafree.core.modes import evaluating, frozen
from datafree.core.runtime import Runtime
from datafree.core.settings import DryRun, PerRun, Steps
from datafree.core.state import Counter, Stateful
from datafree.data.augment import Augmentation
from datafree.data.pool import Batch
from datafree.engine.look import Look
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.common.generators import Latent
from datafree.methods.common.inversion import Inversion, Inverter
from datafree.networks.inside.taps import calls, layer_inputs


class CSD(Method):
    """Settings of CSD; the defaults are those of its code for CIFAR-10, which DDA (arXiv 2410.17606) uses as well."""

    name: Literal["csd"] = "csd"
    """Name of the method."""
    inversion: Inversion = Inversion(batch=200, steps=200, lr=1e-3, betas=(0.5, 0.999))
    """How the generator and the noise of each batch are optimised."""
    latent: Latent = Latent(size=256, width=128)
    """The noise and the generator."""
    warmup_images: Annotated[NonNegativeInt, PerRun(), DryRun(8)] = 80_000
    """Images made before the student's features are used."""
    warmup_steps: Steps = 500
    """Adam steps for each batch of those images."""
    hardness: PositiveFloat = 10.0
    """Weight of the head's error on class and rotation, which the images raise."""
    head_lr: PositiveFloat = 0.1
    """Learning rate of the head."""
    views: Augmentation = Augmentation(crop=4, flip=True)
    """Random changes of an image in each step of the inversion, the same for both networks."""
    look: Look = Look(temperature=20.0, augment=Augmentation(crop=4, flip=True))
    """How the student sees the images."""

    @property
    def adversarial(self) -> bool:
        """Whether images depend on the student: after the warm-up they are those that it finds hard."""
        return True

    def start(self, problem: Problem, runtime: Runtime) -> "CSDSynthesizer":
        """Start CSD.

        Args:
            problem: teacher, student and inputs.
            runtime: device, precision and random numbers of the run.

        Returns:
            The synthesizer, which makes the images.

        Raises:
            ValueError: the teacher has no batch norms with running statistics, the student does not end in a linear layer, or
                the images are not square or have sides that the generator cannot make.
        """
        problem.refuse_other_tasks("csd")
        runtime.refuse_compiled("csd")
        return CSDSynthesizer(self, problem, runtime)


class CSDSynthesizer(Synthesizer):
    """CSD at work, with its count of images and the head on the student's features."""

    def __init__(self, settings: CSD, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.settings = settings
        self.inverter = Inverter(settings.inversion, problem, runtime)
        _, height, width = problem.inputs.shape
        if height != width:
            raise ValueError(
                f"csd rotates images by quarter turns, so {height}x{width} must be square; pass square --inputs, or use cmi."
            )
        if settings.inversion.statistics:
            problem.norms("csd")
        with evaluating(problem.student):
            last = calls(problem.student, runtime.noise(2, *problem.inputs.shape))[-1]
        if not isinstance(last.layer, nn.Linear):
            raise ValueError(
                f"csd needs a student that ends in a linear layer, and {last.name!r} is a {type(last.layer).__name__}; use cmi."
            )
        self.layer, features = last.name, last.layer.in_features
        settings.latent.fresh(problem.inputs.shape, runtime)  # raises for sides that it cannot make
        outputs = 4 * problem.classes
        self.head = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, outputs)).to(runtime.device)
        self._reset_head()
        self.trainable_head = parallel(self.head)
        self.optimizer = torch.optim.SGD(self.head.parameters(), settings.head_lr, fused=True)
        self.made = Counter()

    def synthesize(self, n: int) -> Batch:
        """`n` images with the classes y [n, classes], one-hot, that they were made for; the head then gets new weights."""
        classes = self.problem.classes
        labels = self.settings.inversion.labels(n, classes, self.runtime)
        images = [self._invert(part) for part in labels.split(self.settings.inversion.batch)]
        self._reset_head()
        return Batch(torch.cat(images), F.one_hot(labels, classes).float())

    def on_student_batch(self, student: nn.Module, x: Tensor, logits: Tensor) -> None:
        """One step of the head, with the teacher's predictions as classes."""
        with evaluating(student), torch.no_grad():  # in train mode rotated images would change the running statistics
            features = self._features(student, x)
        self.runtime.minimize(self._head_loss(self.trainable_head, features, logits.argmax(1)), self.optimizer)

    def state(self) -> dict[str, Stateful]:
        return {"head": self.head, "made": self.made, **self.inverter.state()}

    def _reset_head(self) -> None:
        for layer in self.head:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=self.runtime.random)
                nn.init.zeros_(layer.bias)
        same_weights(self.head)

    def _invert(self, labels: Tensor) -> Tensor:
        """Invert one batch to images in network units, the best iterate of the batch."""
        settings, inputs, student = self.settings, self.problem.inputs, self.problem.student
        generator = settings.latent.fresh(inputs.shape, self.runtime)
        z = self.runtime.noise(len(labels), settings.latent.size).requires_grad_()
        warming_up = self.made.count < settings.warmup_images

        def hardness(images: Tensor, view: Tensor, logits: Tensor) -> Iterator[Tensor]:
            if not warming_up:
                with self.runtime.autocast():
                    features = self._features(student, view)
                yield -settings.hardness * self._head_loss(self.head, features, labels)

        with frozen(self.head):
            best = self.inverter(
                [*generator.parameters(), z],
                lambda: inputs.to_network(generator(z)),
                lambda logits: F.cross_entropy(logits, labels),
                hardness,
                view=lambda images: settings.views(images, self.runtime.random),
                steps=settings.warmup_steps if warming_up else None,
            )
        self.made.count += len(labels)
        return best

    def _features(self, student: nn.Module, x: Tensor) -> Tensor:
        """Input of the student's last layer for `x` rotated by 0, 1, 2 and 3 quarter turns, [4 B, features]."""
        with layer_inputs(student, self.layer) as values:
            student(torch.cat([x.rot90(quarters, (2, 3)) for quarters in range(4)]))
        return values[self.layer].float()

    def _head_loss(self, head: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the head's outputs, scaled to length 1, for class and rotation together, 4 y + quarters."""
        joint = torch.cat([4 * labels + quarters for quarters in range(4)])
        return F.cross_entropy(F.normalize(head(features), dim=1), joint)
