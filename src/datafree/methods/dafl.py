"""DAFL: data-free learning of student networks (Chen et al., ICCV 2019, arXiv 1904.01186).

A generator learns to make images that the teacher is sure of, all classes equally often, with high features. The same fakes,
in the same step, teach the student. No batch norms are needed.
"""

import math
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor

from datafree.core.runtime import Runtime
from datafree.core.settings import Images
from datafree.core.state import Stateful
from datafree.data.pool import Batch
from datafree.engine.look import Look
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.common.fakes import Fakes
from datafree.methods.common.generators import Latent
from datafree.methods.common.losses import negative_entropy, own_cross_entropy
from datafree.networks.inside.taps import calls, layer_inputs
from datafree.networks.outputs import noise_for


class DAFL(Method):
    """Settings of DAFL; the defaults are those of the authors' code for MNIST, but for the generator's rate."""

    name: Literal["dafl"] = "dafl"
    latent: Latent = Latent(size=100, generator="upsample", width=128)
    """The generator."""
    batch: Images = 512
    """Images in one step of the generator, and of the student where the plan's batch is as large."""
    lr: PositiveFloat = 1e-3
    """Learning rate of the generator's Adam, constant over the run; the paper's are 0.2 (MNIST) and 0.02 (CIFAR)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """That Adam's two decay rates."""
    cross_entropy: NonNegativeFloat = 1.0
    """Weight of the teacher's cross-entropy against its own largest class (one-hot loss)."""
    balance: NonNegativeFloat = 5 / math.log(10)
    """Weight of the negative entropy, in nats, of the teacher's mean answer (information entropy loss)."""
    activation: NonNegativeFloat = 0.1
    """Weight of the mean absolute feature that enters the teacher's last layer, which is raised (activation loss)."""
    look: Look = Look(temperature=1.0)
    """How the student sees the images."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not (self.cross_entropy or self.balance or self.activation):
            raise ValueError("the generator has nothing to learn; give cross_entropy, balance or activation a weight above 0")
        return self

    def start(self, problem: Problem, runtime: Runtime) -> "DAFLSynthesizer":
        """Begin with a fresh generator. Raises `ValueError` for a task or an image size that it does not serve."""
        problem.refuse_other_tasks("dafl")
        return DAFLSynthesizer(self, problem, runtime)


class DAFLSynthesizer(Synthesizer):
    """DAFL at work: a generator that only looks at the teacher."""

    def __init__(self, settings: DAFL, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.settings = settings
        self.fakes = Fakes(settings.latent, settings.batch, settings.lr, problem, runtime, settings.betas)
        network = self.teacher.network
        self.last = calls(network, noise_for(network, problem.inputs))[-1].name

    def synthesize(self, n: int) -> Batch:
        """n fakes, each batch of which was first a step of the generator.

        In the paper a step trains generator and student on one batch. The generator never looks at the student, so its steps
        of a round may all come before the student's, who sees the same fakes in the same order.
        """
        return Batch(self.fakes.in_passes(n, self._learn))

    def restart(self) -> bool:
        self.fakes.restart()
        return True

    def state(self) -> dict[str, Stateful]:
        return self.fakes.state()

    def _learn(self, n: int) -> Tensor:
        """One Adam step of the generator on n fakes of new noise; those fakes, detached."""
        with self.runtime.autocast():
            x = self.fakes.learned(self.fakes.noise(n))
            logits, features = self._answer(x)
        self.fakes.step(self._terms(logits, features))
        return x.detach()

    def _answer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's logits for x [B, C, H, W], and what enters its last layer; nothing where no term reads it."""
        if not self.settings.activation:
            return self.teacher.fast(x), x.new_empty(0)
        with layer_inputs(self.teacher.folded, self.last) as inside:
            logits = self.teacher.fast(x, readable=True)
        return logits, inside[self.last]

    def _terms(self, logits: Tensor, features: Tensor) -> Iterator[tuple[str, float, Tensor]]:
        """The three losses of section 3.2, each with its weight."""
        settings = self.settings
        if settings.cross_entropy:
            yield "cross_entropy", settings.cross_entropy, own_cross_entropy(logits)
        if settings.balance:
            yield "balance", settings.balance, negative_entropy(logits)
        if settings.activation:
            yield "activation", settings.activation, -features.float().abs().mean()
