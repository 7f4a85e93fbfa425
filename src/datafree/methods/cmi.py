"""CMI: contrastive model inversion (Fang et al., IJCAI 2021, arXiv 2105.08584).

A fresh generator is optimised for each batch until the teacher answers with chosen classes and its batch norms see what they
remember; a contrastive term tells each image from all that were made before, so that the images stay diverse.
"""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from datafree.augment import Augmentation, random_zoom
from datafree.inversion import fresh_generator, invert
from datafree.losses import agreed_divergence, distillation, statistics_distance
from datafree.method import Method, Problem, Synthesizer
from datafree.modes import evaluating, frozen
from datafree.moments import channel_means
from datafree.runtime import Runtime
from datafree.state import Stateful
from datafree.taps import layer_inputs, norm_statistics
from datafree.transfer import Batch


class CMI(Method):
    """Settings of CMI; defaults are those of its code for CIFAR-10, from scratch."""

    name: Literal["cmi"] = "cmi"
    counted: ClassVar[tuple[str, ...]] = ("batch",)

    batch: PositiveInt = 256
    """Images inverted together, by one fresh generator."""
    steps: PositiveInt = 200
    """Adam steps a batch."""
    lr: PositiveFloat = 1e-3
    """Learning rate of the generator and its noise, and of the projection."""
    momentum: tuple[float, float] = (0.5, 0.999)
    """Adam's two decay rates for the generator and its noise."""
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
    contrast: NonNegativeFloat = 0.8
    """Weight of the contrastive term."""
    contrast_temperature: PositiveFloat = 0.1
    """Temperature of the contrastive term."""
    negatives: PositiveInt = 4096
    """Earlier images drawn in each step to be told apart from."""
    bank: PositiveInt = 40_960
    """Earlier images that are remembered, by their features."""
    projection: PositiveInt = 256
    """Size of what features are projected to before they are compared."""
    views: Augmentation = Augmentation(crop=4, flip=True)
    """How the teacher sees the images in each step."""
    closest: float = Field(0.25, gt=0, le=1)
    """Smallest share of an image's area in the second view, which is compared with the first."""
    adversary: NonNegativeFloat = 0.0
    """Weight of the student's distance where it agrees on the class; 0: images need no student. The paper's is 0.5."""
    patience: NonNegativeInt = 0
    """Stop a batch when its least loss is flat over this many steps; 0: never."""
    temperature: PositiveFloat = 20.0
    """Softens both networks' logits in the student's steps."""
    augment: Augmentation = Augmentation(crop=4, flip=True)
    """How the student sees the images."""

    @property
    def adversarial(self) -> bool:
        """Only the adversary looks at the student."""
        return self.adversary > 0

    def rehearsal(self) -> "CMI":
        return self.model_copy(update={"batch": min(self.batch, 8), "steps": min(self.steps, 3), "bank": min(self.bank, 64)})

    def start(self, problem: Problem, runtime: Runtime) -> "Inverter":
        """Raises `ValueError` for a teacher without batch norms that remember, or sides that are not multiples of 4."""
        problem.refuse_other_tasks("cmi")
        return Inverter(self, problem, runtime)


class Inverter(Synthesizer):
    """CMI at work: what it has made, and the projection in which images are compared."""

    def __init__(self, settings: CMI, problem: Problem, runtime: Runtime):
        self.settings, self.problem, self.runtime = settings, problem, runtime
        self.network = problem.teacher.network
        self.teacher = problem.teacher.folded(problem.inputs)  # for the student's steps, where no norm is read
        self.norms = problem.norms("cmi")
        self._generator()  # refuses sides that it cannot make
        features = self._features(runtime.noise(2, *problem.inputs.shape)).shape[1]
        self.bank = Bank(settings.bank, 2 * features, runtime)
        layers = (nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, settings.projection))
        self.head = nn.Sequential(*layers).to(runtime.device)
        self.optimizer = torch.optim.Adam(self.head.parameters(), settings.lr, fused=True)

    def synthesize(self, n: int) -> Batch:
        """n images with the classes y [n, classes], one-hot, that they were made for."""
        classes = self.problem.classes
        labels = torch.randint(classes, (n,), generator=self.runtime.random, device=self.runtime.device)
        images = [self._invert(part) for part in labels.split(self.settings.batch)]
        return Batch(torch.cat(images), F.one_hot(labels, classes).float())

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """Knowledge distillation on augmented images, the teacher asked anew."""
        x = self.settings.augment(batch.x, self.runtime.random)
        return distillation(student, self.teacher, x, self.settings.temperature)

    def state(self) -> dict[str, Stateful]:
        return {"bank": self.bank, "head": self.head, "optimizer": self.optimizer}

    def _generator(self) -> nn.Module:
        return fresh_generator(self.problem.inputs.shape, self.settings.latent, self.settings.width, self.runtime)

    def _invert(self, labels: Tensor) -> Tensor:
        """Images in network units, the best iterate of the whole batch; the bank remembers them."""
        settings, inputs, student = self.settings, self.problem.inputs, self.problem.student
        generator, z = self._generator(), self.runtime.noise(len(labels), settings.latent).requires_grad_()
        with frozen(student), evaluating(student):
            best, least = invert(
                [*generator.parameters(), z],
                lambda: inputs.to_network(generator(z)),
                lambda x: self._objective(x, labels).view(1),
                self.runtime,
                steps=settings.steps,
                lr=settings.lr,
                momentum=settings.momentum,
                patience=settings.patience,
                after=self._move_head,
            )
        self.runtime.note("inversion_loss", least.mean())
        if settings.contrast:
            with torch.no_grad():
                pair = self._features(self._near(best)), self._features(self._far(best))
            self.bank.add(torch.cat(pair, dim=1))
        return best

    def _move_head(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _objective(self, x: Tensor, labels: Tensor) -> Tensor:
        """The class, the statistics, the student and the contrast, a scalar (as in the authors' code)."""
        settings, near = self.settings, self._near(x)
        with norm_statistics(self.network) as seen, layer_inputs(self.network, *self.norms) as inside, self.runtime.autocast():
            answer = self.problem.teacher(near).float()
        loss = torch.zeros((), device=answer.device)
        if settings.one_hot:
            loss = loss + settings.one_hot * F.cross_entropy(answer, labels)
        if settings.statistics:
            loss = loss + settings.statistics * statistics_distance(seen.values(), settings.scale_free)
        if settings.adversary:
            with self.runtime.autocast():
                own = self.problem.student(near)
            loss = loss - settings.adversary * agreed_divergence(own, answer)
        if settings.contrast:
            loss = loss + settings.contrast * self._contrast(_means(inside), self._features(self._far(x)))
        return loss

    def _contrast(self, near: Tensor, far: Tensor) -> Tensor:
        """Cross-entropy of finding each image's near view among all, from its far view; features are [B, channels]."""
        old = self.bank.draw(self.settings.negatives)
        old_near, old_far = old.chunk(2, dim=1)
        projected = F.normalize(self.head(torch.cat([far, old_far, near, old_near])), dim=1)
        one, other = projected.chunk(2)
        logits = one @ other.detach().T / self.settings.contrast_temperature
        each = F.cross_entropy(logits, torch.arange(len(logits), device=logits.device), reduction="none")
        fresh = each[: len(near)].mean()
        return fresh + each[len(near) :].mean() if len(old) else fresh

    def _near(self, x: Tensor) -> Tensor:
        return self.settings.views(x, self.runtime.random)

    def _far(self, x: Tensor) -> Tensor:
        return random_zoom(x, self.settings.closest, self.runtime.random)

    def _features(self, x: Tensor) -> Tensor:
        """Each image's mean of every channel that enters a batch norm, [B, channels]."""
        with layer_inputs(self.network, *self.norms) as inside, self.runtime.autocast():
            self.problem.teacher(x)
        return _means(inside)


class Bank:
    """Features of the newest images, on the device, in half precision."""

    def __init__(self, size: int, features: int, runtime: Runtime):
        self.size, self.runtime = size, runtime
        self.rows = torch.empty(0, features, dtype=torch.float16, device=runtime.device)

    def add(self, features: Tensor) -> None:
        """Remember these [B, features]; the oldest are forgotten."""
        self.rows = torch.cat([self.rows, features.half()])[-self.size :]

    def draw(self, n: int) -> Tensor:
        """Up to n of them, [n, features], without replacement."""
        rows = torch.randperm(len(self.rows), generator=self.runtime.random, device=self.rows.device)[:n]
        return self.rows[rows].float()

    def state_dict(self) -> dict[str, Any]:
        """What is remembered."""
        return {"rows": self.rows.clone()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"].to(self.rows.device)


def _means(inside: dict[str, Tensor]) -> Tensor:
    return torch.cat([channel_means(x) for x in inside.values()], dim=1)
