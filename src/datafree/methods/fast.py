"""Fast-Datafree: a generator that learns to need few steps (Fang et al., AAAI 2022, arXiv 2112.06253).

One generator is kept for the whole run. Each batch starts from a copy of it, which a few steps optimise together with fresh
noise until the teacher answers with chosen classes and its batch norms see their running statistics; what the copy needed is
then the gradient of one step of the kept generator, so that the next copy starts closer.
"""

import copy
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from datafree.core.distributed import mean_over_ranks, same_weights
from datafree.core.runtime import Runtime
from datafree.core.state import Counter, Stateful
from datafree.data.augment import Augmentation
from datafree.data.pool import Batch
from datafree.engine.look import Look
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.common.adversary import Adversary, decision_adversary
from datafree.methods.common.generators import Latent, plain_start
from datafree.methods.common.inversion import Inversion, Inverter

REPTILE = 67.0  # times how far the copy went: the scale of the outer gradient in its code


class Fast(Method):
    """Settings of Fast-Datafree; defaults are those of its code for CIFAR with five steps a batch, without the adversary."""

    name: Literal["fast"] = "fast"
    inversion: Inversion = Inversion(
        batch=256, steps=5, lr=3e-3, betas=(0.5, 0.999), cross_entropy=0.5, statistics=10.0, history=0.9
    )
    """How a copy is optimised for a batch. The paper's rates are 5e-3, 3e-3 and 2e-3 with 2, 5 and 10 steps."""
    noise_lr: PositiveFloat = 0.01
    """Learning rate of the noise, optimised with the copy; the paper's is 0.015 with 2 steps."""
    latent: Latent = Latent(size=256, width=128)
    """The generator."""
    meta: Literal["fomaml", "reptile", "none"] = "fomaml"
    """Outer gradient of the kept generator: fomaml, the sum of the copy's gradients; reptile, how far the copy went; none:
    there is no copy, and the generator itself is optimised batch after batch."""
    reset_first_layer_at: float = Field(1.0, ge=0, le=1)
    """Share of the run after which the generator's first linear layer and batch norm begin anew, once; 1: never."""
    adversary: Adversary = Adversary(weight=0.0)
    """Weight of the student's distance where it agrees on the class; 0: images need no student. The paper's is about 1.1."""
    views: Augmentation = Augmentation(crop=4, flip=True)
    """How both networks see the images in each step."""
    look: Look = Look(temperature=20.0, augment=Augmentation(crop=4, flip=True))
    """How the student sees the images."""

    @property
    def adversarial(self) -> bool:
        """Only the adversary looks at the student."""
        return self.adversary.weight > 0

    def start(self, problem: Problem, runtime: Runtime) -> "FastSynthesizer":
        """Raises `ValueError` for a teacher without batch norms that keep statistics, or sides that cannot be made."""
        problem.refuse_other_tasks("fast")
        return FastSynthesizer(self, problem, runtime)


class FastSynthesizer(Synthesizer):
    """Fast-Datafree at work: the kept generator, its optimizer, and what the teacher's norms have seen."""

    def __init__(self, settings: Fast, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.settings, inner = settings, settings.inversion
        if inner.statistics:
            problem.norms("fast")
        self.inverter = Inverter(inner, problem, runtime)
        self.generator = settings.latent.build(problem.inputs.shape, runtime, pixels=True)
        outer_rate = inner.lr * inner.steps
        self.optimizer = torch.optim.Adam(self.generator.parameters(), outer_rate, inner.betas, fused=True)
        self.resets = Counter()
        self.at(0.0)

    def at(self, done: float) -> None:
        self.adversary = self.settings.adversary.at(done)
        if done >= self.settings.reset_first_layer_at and not self.resets.count:
            self._reset_first_layer()

    def synthesize(self, n: int) -> Batch:
        """n images with the classes y [n, classes], one-hot, that they were made for."""
        classes = self.problem.classes
        labels = self.settings.inversion.labels(n, classes, self.runtime)
        images = [self._invert(part) for part in labels.split(self.settings.inversion.batch)]
        return Batch(torch.cat(images), F.one_hot(labels, classes).float())

    def restart(self) -> bool:
        plain_start(self.generator, self.runtime.random)
        same_weights(self.generator)
        self.optimizer.state.clear()
        self.inverter.history.forget()
        return True

    def state(self) -> dict[str, Stateful]:
        outer = {} if self.settings.meta == "none" else {"optimizer": self.optimizer}
        return {"generator": self.generator, "resets": self.resets, **outer, **self.inverter.state()}

    def _invert(self, labels: Tensor) -> Tensor:
        """Images in network units, the best iterate of the whole batch; the kept generator takes its step."""
        settings, inputs = self.settings, self.problem.inputs
        generator = self.generator if settings.meta == "none" else copy.deepcopy(self.generator)
        weights = list(generator.parameters())
        z = self.runtime.noise(len(labels), settings.latent.size).requires_grad_()
        leaves: list[dict[str, Any]] = [{"params": weights}, {"params": [z], "lr": settings.noise_lr}]
        gradients = [torch.zeros_like(weight) for weight in weights]

        def sum_gradients() -> None:
            """Add those of the step just taken, so of the weights before it."""
            for total, weight in zip(gradients, weights, strict=True):
                assert weight.grad is not None
                total += weight.grad

        best = self.inverter(
            leaves,
            lambda: inputs.to_network(generator(z)),
            lambda logits: F.cross_entropy(logits, labels),
            decision_adversary(self.adversary, self.problem.student, self.runtime),
            view=lambda images: settings.views(images, self.runtime.random),
            after=sum_gradients if settings.meta == "fomaml" else lambda: None,
        )
        if settings.meta == "reptile":
            kept = self.generator.parameters()
            gradients = [REPTILE * (old - new).detach() for old, new in zip(kept, weights, strict=True)]
        if settings.meta != "none":
            self._outer_step(gradients)
        return best

    def _outer_step(self, gradients: list[Tensor]) -> None:
        """One step of the kept generator, the same in every process."""
        for weight, gradient in zip(self.generator.parameters(), gradients, strict=True):
            weight.grad = mean_over_ranks(gradient)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _reset_first_layer(self) -> None:
        """The kept generator's first linear layer and batch norm anew: weights N(0, 0.02), biases 0 (its code's `reset_l0`)."""
        for kind in (nn.Linear, nn.BatchNorm2d):
            first = next(layer for layer in self.generator.modules() if isinstance(layer, kind))
            nn.init.normal_(first.weight, 0.0, 0.02, generator=self.runtime.random)
            nn.init.zeros_(first.bias)
        same_weights(self.generator)
        self.resets.count += 1
