"""CMI: contrastive model inversion (Fang et al., IJCAI 2021, arXiv 2105.08584).

For each batch a new generator and its noise are optimised: the teacher should predict the chosen classes, and the inputs of
its batch norms should have the running statistics. A contrastive term separates each image from earlier ones, so that the
images stay diverse.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from datafree.core.runtime import Runtime
from datafree.core.settings import DryRun, Width
from datafree.core.state import Stateful
from datafree.data.augment import Augmentation, random_zoom
from datafree.data.pool import Batch
from datafree.engine.look import Look
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.common.generators import Latent
from datafree.methods.common.inversion import Inversion, Inverter
from datafree.methods.common.losses import agreed_divergence
from datafree.networks.inside.statistics import channel_means
from datafree.networks.inside.taps import layer_inputs


class CMI(Method):
    """Settings of CMI; the defaults are those of its code for CIFAR-10, from scratch."""

    name: Literal["cmi"] = "cmi"
    """Name of the method."""
    inversion: Inversion = Inversion(batch=256, steps=200, lr=1e-3, betas=(0.5, 0.999))
    """How the generator and the noise of each batch are optimised; the projection has the same learning rate."""
    latent: Latent = Latent(size=256, width=128)
    """The noise and the generator."""
    contrast: NonNegativeFloat = 0.8
    """Weight of the contrastive term."""
    contrast_temperature: PositiveFloat = 0.1
    """Temperature of the contrastive term."""
    negatives: PositiveInt = 4096
    """Earlier images drawn in each step as negatives of the contrastive term."""
    memory_size: Annotated[PositiveInt, DryRun(64)] = 40_960
    """Number of newest images whose features are kept as negatives."""
    projection: Width = 256
    """Units of the projected features that are compared."""
    views: Augmentation = Augmentation(crop=4, flip=True)
    """Random changes of an image in its first view, which the teacher sees."""
    min_crop_area: float = Field(0.25, gt=0, le=1)
    """Smallest area of the second view, which is compared with the first, as a share of the image's area."""
    adversary: NonNegativeFloat = 0.0
    """Weight of the student's divergence from the teacher where both choose the same class, which the images raise;
    0: images need no student. The paper's is 0.5."""
    look: Look = Look(temperature=20.0, augment=Augmentation(crop=4, flip=True))
    """How the student sees the images."""

    @property
    def adversarial(self) -> bool:
        """Whether the adversary, the only term that uses the student, has a weight."""
        return self.adversary > 0

    def start(self, problem: Problem, runtime: Runtime) -> "CMISynthesizer":
        """Start CMI.

        Args:
            problem: teacher, student and inputs.
            runtime: device, precision and random numbers of the run.

        Returns:
            The synthesizer, which makes the images.

        Raises:
            ValueError: the teacher has no batch norms with running statistics, or the generator cannot make these sides.
        """
        problem.refuse_other_tasks("cmi")
        return CMISynthesizer(self, problem, runtime)


class CMISynthesizer(Synthesizer):
    """CMI at work, with the features of earlier images and the projection in which images are compared."""

    def __init__(self, settings: CMI, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.settings, self.network = settings, problem.teacher.network
        self.inverter = Inverter(settings.inversion, problem, runtime)
        self.norms = problem.norms("cmi")
        settings.latent.fresh(problem.inputs.shape, runtime)  # raises for sides that it cannot make
        features = self._features(runtime.noise(2, *problem.inputs.shape)).shape[1]
        self.memory = FeatureMemory(settings.memory_size, 2 * features, runtime)
        layers = (nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, settings.projection))
        self.head = nn.Sequential(*layers).to(runtime.device)
        self.optimizer = torch.optim.Adam(self.head.parameters(), settings.inversion.lr, fused=True)

    def synthesize(self, n: int) -> Batch:
        """`n` images with the classes y [n, classes], one-hot, that they were made for."""
        classes = self.problem.classes
        labels = self.settings.inversion.labels(n, classes, self.runtime)
        images = [self._invert(part) for part in labels.split(self.settings.inversion.batch)]
        return Batch(torch.cat(images), F.one_hot(labels, classes).float())

    def state(self) -> dict[str, Stateful]:
        return {"memory": self.memory, "head": self.head, "optimizer": self.optimizer, **self.inverter.state()}

    def _invert(self, labels: Tensor) -> Tensor:
        """Invert one batch to images in network units, the best iterate of the batch, and store their features."""
        settings, inputs = self.settings, self.problem.inputs
        generator = settings.latent.fresh(inputs.shape, self.runtime)
        z = self.runtime.noise(len(labels), settings.latent.size).requires_grad_()
        norm_inputs: dict[str, Tensor] = {}  # of the teacher's norms for the first view in this step

        def teacher(view: Tensor) -> Tensor:
            with layer_inputs(self.network, *self.norms) as inputs_now:
                logits = self.teacher(view)
            norm_inputs.update(inputs_now)
            return logits  # type: ignore[no-any-return]

        def terms(images: Tensor, view: Tensor, logits: Tensor) -> Iterator[Tensor]:
            if settings.adversary:
                with self.runtime.autocast():
                    student_logits = self.problem.student(view)
                yield -settings.adversary * agreed_divergence(student_logits, logits)
            if settings.contrast:
                yield settings.contrast * self._contrast(_means(norm_inputs), self._features(self._second_view(images)))
            norm_inputs.clear()  # so that no graph is kept after its step

        best = self.inverter(
            [*generator.parameters(), z],
            lambda: inputs.to_network(generator(z)),
            lambda logits: F.cross_entropy(logits, labels),
            terms,
            view=self._first_view,
            teacher=teacher,
            after=self._step_head,
        )
        if settings.contrast:
            with torch.no_grad():
                pair = self._features(self._first_view(best)), self._features(self._second_view(best))
            self.memory.add(torch.cat(pair, dim=1))
        return best

    def _step_head(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _contrast(self, first: Tensor, second: Tensor) -> Tensor:
        """Cross-entropy of finding each image's first view among all first views, from its second view.

        The features of both views are [B, channels]; earlier images from the memory are added to them.
        """
        old = self.memory.draw(self.settings.negatives)
        old_first, old_second = old.chunk(2, dim=1)
        projected = F.normalize(self.head(torch.cat([second, old_second, first, old_first])), dim=1)
        queries, keys = projected.chunk(2)
        logits = queries @ keys.detach().T / self.settings.contrast_temperature
        each = F.cross_entropy(logits, torch.arange(len(logits), device=logits.device), reduction="none")
        new = each[: len(first)].mean()
        return new + each[len(first) :].mean() if len(old) else new

    def _first_view(self, x: Tensor) -> Tensor:
        return self.settings.views(x, self.runtime.random)

    def _second_view(self, x: Tensor) -> Tensor:
        return random_zoom(x, self.settings.min_crop_area, self.runtime.random)

    def _features(self, x: Tensor) -> Tensor:
        """Mean over positions of every channel that enters one of the teacher's batch norms, [B, channels]."""
        with layer_inputs(self.network, *self.norms) as norm_inputs, self.runtime.autocast():
            self.problem.teacher(x)
        return _means(norm_inputs)


class FeatureMemory:
    """Features of the newest `size` images, on the device, in half precision."""

    def __init__(self, size: int, features: int, runtime: Runtime):
        self.size, self.runtime = size, runtime
        self.rows = torch.empty(0, features, dtype=torch.float16, device=runtime.device)

    def add(self, features: Tensor) -> None:
        """Add `features` [B, features]; if the memory is full, they replace the oldest ones."""
        self.rows = torch.cat([self.rows, features.half()])[-self.size :]

    def draw(self, n: int) -> Tensor:
        """Up to `n` random rows [n, features], without replacement."""
        rows = torch.randperm(len(self.rows), generator=self.runtime.random, device=self.rows.device)[:n]
        return self.rows[rows].float()

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows.clone()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"].to(self.rows.device)


def _means(norm_inputs: dict[str, Tensor]) -> Tensor:
    return torch.cat([channel_means(x) for x in norm_inputs.values()], dim=1)
