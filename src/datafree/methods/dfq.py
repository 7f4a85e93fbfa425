"""DFQ: data-free adversarial distillation with class and batch-norm terms (Choi et al., CVPRW 2020, arXiv 2005.04136).

DFAD's alternation: a generator looks for images on which the student's answer diverges from the teacher's, but is held to
the teacher's batch-norm statistics, to images that the teacher is sure of, and to all classes equally often. The paper plays
it to quantise networks as well; here it distils.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from datafree.core.modes import evaluating, frozen
from datafree.core.runtime import Runtime
from datafree.core.settings import Images
from datafree.core.state import Stateful
from datafree.data.pool import Batch
from datafree.engine.look import Look, kd
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.common.adversary import Adversary
from datafree.methods.common.fakes import Fakes
from datafree.methods.common.generators import Latent
from datafree.methods.common.losses import negative_entropy, own_cross_entropy, statistics_distance
from datafree.networks.inside.taps import NormStatistics, norm_statistics


class DFQ(Method):
    """Settings of DFQ; the defaults are those of Fast-Datafree's code (arXiv 2112.06253), which publishes it as a baseline."""

    name: Literal["dfq"] = "dfq"
    latent: Latent = Latent(size=256, generator="upsample", width=128)
    """The generator."""
    batch: Images = 256
    """Images in one pass of the generator, whose batch norm sees them together."""
    lr: PositiveFloat = 1e-3
    """Learning rate of the generator's Adam, constant over the run."""
    betas: tuple[float, float] = (0.5, 0.999)
    """That Adam's two decay rates."""
    generator_steps: PositiveInt = 1
    """Steps of the generator in a round."""
    adversary: Adversary = Adversary()
    """Weight of the divergence between teacher and student, which the generator raises."""
    statistics: NonNegativeFloat = 1.0
    """Weight of the distance between the fakes' statistics and the running ones of the teacher's batch norms."""
    scale_free: bool = False
    """Measure each layer's distance in shares of its running statistics, so that no layer outweighs another (ours)."""
    cross_entropy: NonNegativeFloat = 1.0
    """Weight of the teacher's cross-entropy against its own largest class."""
    balance: NonNegativeFloat = 20.0
    """Weight of the negative entropy, in nats, of the teacher's mean answer."""
    look: Look = Look(temperature=1.0)
    """How the student sees the images; the generator's divergence has temperature 1 always."""

    @property
    def adversarial(self) -> bool:
        """Only the adversary looks at the student."""
        return self.adversary.weight > 0

    def start(self, problem: Problem, runtime: Runtime) -> "DFQSynthesizer":
        """Begin with a fresh generator.

        Raises `ValueError` for a task or an image size that it does not serve, and for statistics of a teacher without norms.
        """
        problem.refuse_other_tasks("dfq")
        if self.statistics:
            problem.norms("dfq with statistics")
        return DFQSynthesizer(self, problem, runtime)


class DFQSynthesizer(Synthesizer):
    """DFQ at work: a generator, and how much the student's divergence counts at this time of the run."""

    def __init__(self, settings: DFQ, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.settings, self.adversary = settings, settings.adversary.at(0.0)
        self.fakes = Fakes(settings.latent, settings.batch, settings.lr, problem, runtime, settings.betas)
        self.student = runtime.compiled(problem.student)

    def at(self, done: float) -> None:
        self.adversary = self.settings.adversary.at(done)

    def synthesize(self, n: int) -> Batch:
        """Steps of the generator, then n fresh fakes from new noise."""
        settings = self.settings
        if self.adversary or settings.statistics or settings.cross_entropy or settings.balance:
            for _ in range(settings.generator_steps):
                self._learn()
        return Batch(self.fakes.fresh(n))

    def restart(self) -> bool:
        self.fakes.restart()
        return True

    def state(self) -> dict[str, Stateful]:
        return self.fakes.state()

    def _learn(self) -> None:
        """One Adam step of the generator; the student is in eval mode meanwhile and gets no gradients."""
        settings, student = self.settings, self.problem.student
        teacher = self.teacher if settings.statistics else self.teacher.fast  # the faster one has no norms to read
        reading = norm_statistics(self.teacher.network, settings.statistics > 0)
        with frozen(student), evaluating(student), reading as seen, self.runtime.autocast():
            x = self.fakes.learned(self.fakes.noise())
            logits = teacher(x)
            guess = self.student(x) if self.adversary else None
        self.fakes.step(self._terms(logits, guess, seen))

    def _terms(
        self, logits: Tensor, guess: Tensor | None, seen: dict[str, NormStatistics]
    ) -> Iterator[tuple[str, float, Tensor]]:
        """What counts of the generator's loss, with its weight: of the teacher's logits, the student's, and the norms."""
        settings = self.settings
        if guess is not None:
            yield "generator_divergence", -self.adversary, kd(guess, logits, temperature=1.0)
        if settings.statistics:
            yield "statistics_distance", settings.statistics, statistics_distance(seen.values(), settings.scale_free)
        if settings.cross_entropy:
            yield "cross_entropy", settings.cross_entropy, own_cross_entropy(logits)
        if settings.balance:
            yield "balance", settings.balance, negative_entropy(logits)
