"""DeepInversion (Yin et al., CVPR 2020, arXiv 1912.08795): images with a chosen class and the statistics of the real data.

Noise is optimised: the teacher should predict the chosen class, and the input of every batch norm should have its running mean
and variance. A prior keeps neighbouring pixels similar. Adaptive DeepInversion adds a term for images on which the student
disagrees with the teacher.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor

from datafree.core.runtime import Runtime
from datafree.core.state import Stateful
from datafree.data.augment import Augmentation, random_roll, random_zoom
from datafree.data.pool import Batch
from datafree.engine.look import Look
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.common.inversion import Inversion, Inverter
from datafree.methods.common.losses import jensen_shannon, total_variation
from datafree.methods.common.procedural.supply import Supplier, Supply
from datafree.methods.common.spectrum import spectral


class DeepInversion(Method):
    """Settings of DeepInversion; the defaults are those of its code for CIFAR-10 ("parameters from the paper")."""

    name: Literal["deepinversion"] = "deepinversion"
    """Name of the method."""
    inversion: Inversion = Inversion(batch=256, steps=2000, lr=0.05, betas=(0.9, 0.999), statistics=10.0)
    """How the images are optimised, in network units."""
    procedural: Supply | None = None
    """Begin with procedural images instead of noise, which need far fewer steps (ours)."""
    basis: Literal["pixels", "fourier"] = "pixels"
    """What Adam steps on: pixels, or Fourier coefficients, which change coarse shapes first (ours)."""
    min_crop_area: float = Field(1.0, gt=0, le=1)
    """Least share of an image's area that the teacher is shown, enlarged, in the last step. The least share falls from 1 by a
    cosine over the steps (CDA, arXiv 2311.18838, whose value is 0.08); 1: whole images."""
    total_variation: NonNegativeFloat = 2.5e-5
    """Weight of the total variation."""
    l2: NonNegativeFloat = 0.0
    """Weight of the images' L2 norm."""
    roll: NonNegativeInt = 2
    """Largest random shift of the batch in each step, in pixels, with wrap-around at the edges."""
    adaptive: NonNegativeFloat = 0.0
    """Weight of the student's disagreement with the teacher (Adaptive DeepInversion); 0: images need no student."""
    adaptive_temperature: PositiveFloat = 3.0
    """Divides the logits of both networks in that term."""
    look: Look = Look(temperature=4.0, augment=Augmentation(crop=4, flip=True))
    """How the student sees the images (ours)."""

    @property
    def adversarial(self) -> bool:
        """Whether the adaptive term, the only one that uses the student, has a weight."""
        return self.adaptive > 0

    def start(self, problem: Problem, runtime: Runtime) -> "DeepInversionSynthesizer":
        """Start DeepInversion.

        Args:
            problem: teacher, student and inputs.
            runtime: device, precision and random numbers of the run.

        Returns:
            The synthesizer, which makes the images.

        Raises:
            ValueError: the statistics have a weight, and the teacher has no batch norms with running statistics.
        """
        problem.refuse_other_tasks("deepinversion")
        return DeepInversionSynthesizer(self, problem, runtime)


class DeepInversionSynthesizer(Synthesizer):
    """DeepInversion at work."""

    def __init__(self, settings: DeepInversion, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.settings = settings
        self.inverter = Inverter(settings.inversion, problem, runtime)
        self.supplier = Supplier(settings.procedural, problem, runtime) if settings.procedural else None
        if settings.inversion.statistics:
            problem.norms("deepinversion")

    def synthesize(self, n: int) -> Batch:
        """`n` images with the classes y [n, classes], one-hot, that they were made for, each class equally often."""
        labels = torch.arange(n, device=self.runtime.device) % self.problem.classes
        images = [self._invert(part) for part in labels.split(self.settings.inversion.batch)]
        return Batch(torch.cat(images), F.one_hot(labels, self.problem.classes).float())

    def state(self) -> dict[str, Stateful]:
        """At most the statistics of earlier batches: a batch depends on its random numbers, and at most on the student."""
        supply = self.supplier.state() if self.supplier else {}
        return {**self.inverter.state(), **supply}

    def _invert(self, labels: Tensor) -> Tensor:
        """Invert one batch to images in network units, the best iterate of the batch."""
        inputs, n = self.problem.inputs, len(labels)
        start = self.supplier(n) if self.supplier else self.runtime.noise(n, *inputs.shape)
        # Ours: images stay in the range that the pool's 8-bit pixels have.
        low, high = (inputs.to_network(torch.full((1, *inputs.shape), v, device=start.device)) for v in (0.0, 1.0))
        if self.settings.basis == "fourier":
            leaf, render = spectral(start, low, high)
            after: Callable[[], object] = lambda: None  # noqa: E731
        else:
            leaf, render, after = start.requires_grad_(), lambda: start, lambda: start.clamp_(low, high)
        return self.inverter(
            [leaf], render, lambda logits: F.cross_entropy(logits, labels), self._terms, view=self._views(), after=after
        )

    def _views(self) -> Callable[[Tensor], Tensor]:
        """How the teacher sees a batch in each of its steps: shifted, and ever smaller parts of it."""
        settings, random, steps = self.settings, self.runtime.random, itertools.count()

        def view(images: Tensor) -> Tensor:
            images = random_roll(images, settings.roll, random)
            if settings.min_crop_area == 1:
                return images
            done = next(steps) / max(1, settings.inversion.steps - 1)
            return random_zoom(images, 1 - (1 - settings.min_crop_area) * (1 - math.cos(math.pi * done)) / 2, random)

        return view

    def _terms(self, images: Tensor, view: Tensor, logits: Tensor) -> Iterator[Tensor]:
        """The image priors (section 3.2) and the student's agreement (section 3.3), each a scalar."""
        settings = self.settings
        if settings.total_variation:
            yield settings.total_variation * total_variation(view)
        if settings.l2:
            yield settings.l2 * torch.linalg.vector_norm(view)
        if settings.adaptive:
            with self.runtime.autocast():
                student_logits = self.problem.student(view)
            yield settings.adaptive * (1 - jensen_shannon(student_logits, logits, settings.adaptive_temperature))
