"""CMI: contrastive model inversion (Fang et al., IJCAI 2021, arXiv 2105.08584).

A fresh generator is optimised for each batch until the teacher answers with chosen classes and its batch norms see their
running statistics; a contrastive term tells each image from all that were made before, so that the images stay diverse.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from datafree.core.runtime import Runtime
from datafree.core.settings import DryRun
from datafree.core.state import Stateful
from datafree.data.augment import Augmentation, random_zoom
from datafree.data.pool import Batch
from datafree.engine.look import Look
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.common.generators import Latent
from datafree.methods.common.inversion import Inversion, Inverter
from datafree.methods.common.losses import agreed_divergence
from datafree.networks.statistics import channel_means
from datafree.networks.taps import layer_inputs


class CMI(Method):
    """Settings of CMI; defaults are those of its code for CIFAR-10, from scratch."""

    name: Literal["cmi"] = "cmi"
    inversion: Inversion = Inversion(batch=256, steps=200, lr=1e-3, betas=(0.5, 0.999))
    """How each batch's generator and noise are optimised; the projection has the same rate."""
    latent: Latent = Latent(size=256, width=128)
    """The generator."""
    contrast: NonNegativeFloat = 0.8
    """Weight of the contrastive term."""
    contrast_temperature: PositiveFloat = 0.1
    """Temperature of the contrastive term."""
    negatives: PositiveInt = 4096
    """Earlier images drawn in each step to be told apart from."""
    memory_size: Annotated[PositiveInt, DryRun(64)] = 40_960
    """Earlier images whose features are kept."""
    projection: PositiveInt = 256
    """Size of what features are projected to before they are compared."""
    views: Augmentation = Augmentation(crop=4, flip=True)
    """How the teacher sees the images in each step."""
    min_crop_area: float = Field(0.25, gt=0, le=1)
    """Smallest share of an image's area in the second view, which is compared with the first."""
    adversary: NonNegativeFloat = 0.0
    """Weight of the student's distance where it agrees on the class; 0: images need no student. The paper's is 0.5."""
    look: Look = Look(temperature=20.0, augment=Augmentation(crop=4, flip=True))
    """How the student sees the images."""

    @property
    def adversarial(self) -> bool:
        """Only the adversary looks at the student."""
        return self.adversary > 0

    def start(self, problem: Problem, runtime: Runtime) -> "CMISynthesizer":
        """Raises `ValueError` for a teacher without batch norms that keep statistics, or sides that cannot be made."""
        problem.refuse_other_tasks("cmi")
        return CMISynthesizer(self, problem, runtime)


class CMISynthesizer(Synthesizer):
    """CMI at work: the features of what it has made, and the projection in which images are compared."""

    def __init__(self, settings: CMI, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.settings, self.network = settings, problem.teacher.network
        self.inverter = Inverter(settings.inversion, problem, runtime)
        self.norms = problem.norms("cmi")
        settings.latent.fresh(problem.inputs.shape, runtime)  # refuses sides that it cannot make
        features = self._features(runtime.noise(2, *problem.inputs.shape)).shape[1]
        self.memory = FeatureMemory(settings.memory_size, 2 * features, runtime)
        layers = (nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, settings.projection))
        self.head = nn.Sequential(*layers).to(runtime.device)
        self.optimizer = torch.optim.Adam(self.head.parameters(), settings.inversion.lr, fused=True)

    def synthesize(self, n: int) -> Batch:
        """n images with the classes y [n, classes], one-hot, that they were made for."""
        classes = self.problem.classes
        labels = self.settings.inversion.labels(n, classes, self.runtime)
        images = [self._invert(part) for part in labels.split(self.settings.inversion.batch)]
        return Batch(torch.cat(images), F.one_hot(labels, classes).float())

    def state(self) -> dict[str, Stateful]:
        return {"memory": self.memory, "head": self.head, "optimizer": self.optimizer, **self.inverter.state()}

    def _invert(self, labels: Tensor) -> Tensor:
        """Images in network units, the best iterate of the whole batch; the memory keeps their features."""
        settings, inputs = self.settings, self.problem.inputs
        generator = settings.latent.fresh(inputs.shape, self.runtime)
        z = self.runtime.noise(len(labels), settings.latent.size).requires_grad_()
        inside: dict[str, Tensor] = {}  # of the teacher's norms, as it last saw the near view

        def answer(view: Tensor) -> Tensor:
            with layer_inputs(self.network, *self.norms) as seen:
                logits = self.teacher(view)
            inside.update(seen)
            return logits  # type: ignore[no-any-return]

        def terms(images: Tensor, view: Tensor, logits: Tensor) -> Iterator[Tensor]:
            if settings.adversary:
                with self.runtime.autocast():
                    own = self.problem.student(view)
                yield -settings.adversary * agreed_divergence(own, logits)
            if settings.contrast:
                yield settings.contrast * self._contrast(_means(inside), self._features(self._far(images)))
            inside.clear()  # so that no graph outlives its step

        best = self.inverter(
            [*generator.parameters(), z],
            lambda: inputs.to_network(generator(z)),
            lambda logits: F.cross_entropy(logits, labels),
            terms,
            view=self._near,
            teacher=answer,
            after=self._move_head,
        )
        if settings.contrast:
            with torch.no_grad():
                pair = self._features(self._near(best)), self._features(self._far(best))
            self.memory.add(torch.cat(pair, dim=1))
        return best

    def _move_head(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _contrast(self, near: Tensor, far: Tensor) -> Tensor:
        """Cross-entropy of finding each image's near view among all, from its far view; features are [B, channels]."""
        old = self.memory.draw(self.settings.negatives)
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
        return random_zoom(x, self.settings.min_crop_area, self.runtime.random)

    def _features(self, x: Tensor) -> Tensor:
        """Each image's mean of every channel that enters a batch norm, [B, channels]."""
        with layer_inputs(self.network, *self.norms) as inside, self.runtime.autocast():
            self.problem.teacher(x)
        return _means(inside)


class FeatureMemory:
    """Features of the newest images, on the device, in half precision."""

    def __init__(self, size: int, features: int, runtime: Runtime):
        self.size, self.runtime = size, runtime
        self.rows = torch.empty(0, features, dtype=torch.float16, device=runtime.device)

    def add(self, features: Tensor) -> None:
        """Keep these [B, features]; the oldest make room."""
        self.rows = torch.cat([self.rows, features.half()])[-self.size :]

    def draw(self, n: int) -> Tensor:
        """Up to n of them, [n, features], without replacement."""
        rows = torch.randperm(len(self.rows), generator=self.runtime.random, device=self.rows.device)[:n]
        return self.rows[rows].float()

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows.clone()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"].to(self.rows.device)


def _means(inside: dict[str, Tensor]) -> Tensor:
    return torch.cat([channel_means(x) for x in inside.values()], dim=1)
