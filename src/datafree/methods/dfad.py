"""DFAD: data-free adversarial distillation (Fang et al., arXiv 1912.11006).

A generator and the student play a min-max game around the frozen teacher: the generator raises the gap between the two
networks' logits, the student lowers it on fresh fakes. No real data, no labels, no class priors; no batch-norm statistics
either, unless asked for.
"""

import contextlib
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from datafree.core.modes import evaluating, frozen
from datafree.core.runtime import Runtime
from datafree.core.settings import Images
from datafree.core.state import Stateful
from datafree.data.pool import Batch
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.common.fakes import Fakes
from datafree.methods.common.generators import Latent
from datafree.methods.common.losses import logit_gap, statistics_distance
from datafree.networks.taps import norm_statistics


class DFAD(Method):
    """Settings of DFAD; the defaults are the CIFAR ones of the authors' code."""

    name: Literal["dfad"] = "dfad"
    latent: Latent = Latent(size=256, generator="upsample", width=128)
    """The generator: the paper's are upsample, 128 wide, for 32x32, and dcgan, 64 wide, for 128x128."""
    batch: Images = 256
    """Images in one pass of the generator, whose batch norm sees them together."""
    lr: PositiveFloat = 1e-3
    """Learning rate of the generator's Adam."""
    generator_steps: PositiveInt = 1
    """Steps of the generator in a round."""
    objective: Literal["gap", "log-gap"] = "gap"
    """What the generator raises: the gap, or log(1 + gap), the paper's choice for segmentation."""
    student_eval_in_generator_step: bool = False
    """Keep the student's batch norm still while the generator learns; the authors' code lets it move."""
    statistics: NonNegativeFloat = 0.0
    """Weight of the distance, layer by layer in shares, between the fakes' statistics and the teacher's running
    ones. Not DFAD's: the term is that of Choi et al. (arXiv 2005.04136), its measure DeepInversion's made scale-free."""

    @property
    def adversarial(self) -> bool:
        """The generator looks for inputs on which this student fails."""
        return True

    def start(self, problem: Problem, runtime: Runtime) -> "DFADSynthesizer":
        """Begin with a fresh generator.

        Raises `ValueError` for a task or an image size that it does not serve, and for statistics of a teacher without norms.
        """
        problem.refuse_other_tasks("dfad", "segmentation")
        if self.statistics:
            problem.norms("dfad with statistics")
        return DFADSynthesizer(self, problem, runtime)


class DFADSynthesizer(Synthesizer):
    """DFAD at work: a generator that looks for inputs on which student and teacher differ."""

    def __init__(self, settings: DFAD, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime)
        self.settings = settings
        self.fakes = Fakes(settings.latent, settings.batch, settings.lr, problem, runtime)
        self.student = runtime.compiled(problem.student)

    def synthesize(self, n: int) -> Batch:
        """Move the generator up the gap, then n fresh fakes from new noise."""
        # The authors' code takes the student's steps first, then the generator's; opening the round with the
        # generator's step is the same cycle, begun one step earlier.
        for _ in range(self.settings.generator_steps):
            self._ascend()
        return Batch(self.fakes.fresh(n))

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """The gap on these fakes: mean |S(x) - T(x)| of raw logits."""
        with torch.no_grad():
            target = self.teacher.fast(batch.x)
        return logit_gap(student(batch.x), target)

    def restart(self) -> bool:
        self.fakes.restart()
        return True

    def state(self) -> dict[str, Stateful]:
        return self.fakes.state()

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return (self.fakes.optimizer,)

    def _ascend(self) -> None:
        """One Adam step on the generator against the gap; the gradient flows through both networks into the fakes."""
        settings, student = self.settings, self.problem.student
        teacher = self.teacher if settings.statistics else self.teacher.fast  # the faster one has no norms to read
        still = evaluating(student) if settings.student_eval_in_generator_step else contextlib.nullcontext()
        reading = norm_statistics(self.teacher.network, settings.statistics > 0)
        with frozen(student), still, reading as seen, self.runtime.autocast():
            x = self.fakes.learned(self.fakes.noise())
            gap = logit_gap(self.student(x), teacher(x))
        loss = -torch.log1p(gap) if settings.objective == "log-gap" else -gap
        if seen:
            distance = statistics_distance(seen.values(), scale_free=True)
            loss = loss + settings.statistics * distance
            self.runtime.note("statistics_distance", distance)
        self.runtime.minimize(loss, self.fakes.optimizer)
        self.runtime.note("generator_gap", gap)
