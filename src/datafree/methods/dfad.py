"""DFAD: data-free adversarial distillation (Fang et al., arXiv 1912.11006).

A generator and the student play a min-max game: the generator raises the gap between the logits of student and frozen teacher,
the student lowers it on new images of the generator (fakes). It needs no real data, labels or class priors, and uses
batch-norm statistics only if `statistics` has a weight.
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
from datafree.networks.inside.taps import norm_statistics


class DFAD(Method):
    """Settings of DFAD; the defaults are those of the authors' code for CIFAR."""

    name: Literal["dfad"] = "dfad"
    """Name of the method."""
    latent: Latent = Latent(size=256, generator="upsample", width=128)
    """The noise and the generator; the paper's are upsample, 128 wide, for 32x32, and dcgan, 64 wide, for 128x128."""
    batch: Images = 256
    """Images in one pass of the generator; its batch norms use the statistics of these images."""
    lr: PositiveFloat = 1e-3
    """Learning rate of the generator's Adam."""
    generator_steps: PositiveInt = 1
    """Steps of the generator in a round."""
    objective: Literal["gap", "log-gap"] = "gap"
    """What the generator raises: the gap, or log(1 + gap), the paper's choice for segmentation."""
    student_eval_in_generator_step: bool = False
    """Put the student in eval mode for the generator's step; in the authors' code that step changes the running statistics
    of the student's batch norms."""
    statistics: NonNegativeFloat = 0.0
    """Weight of the distance between the statistics of the fakes and the running ones of the teacher, as a share of the latter
    in each layer. Not part of DFAD: the term is that of Choi et al. (arXiv 2005.04136), the distance that of DeepInversion,
    made scale-free."""

    @property
    def adversarial(self) -> bool:
        """Whether images depend on the student: the generator searches for inputs on which it fails."""
        return True

    def start(self, problem: Problem, runtime: Runtime) -> "DFADSynthesizer":
        """Start DFAD with a new generator.

        Args:
            problem: teacher, student and inputs.
            runtime: device, precision and random numbers of the run.

        Returns:
            The synthesizer, which makes the images.

        Raises:
            ValueError: the task is not supported, the generator cannot make these sides, or `statistics` has a weight and the
                teacher has no batch norms with running statistics.
        """
        problem.refuse_other_tasks("dfad", "segmentation")
        if self.statistics:
            problem.norms("dfad with statistics")
        return DFADSynthesizer(self, problem, runtime)


class DFADSynthesizer(Synthesizer):
    """DFAD at work, with a generator that searches for inputs on which student and teacher differ."""

    def __init__(self, settings: DFAD, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime)
        self.settings = settings
        self.fakes = Fakes(settings.latent, settings.batch, settings.lr, problem, runtime)
        self.student = runtime.compiled(problem.student)

    def synthesize(self, n: int) -> Batch:
        """Train the generator to raise the gap, then return `n` fakes from new noise."""
        # The authors' code takes the student's steps before the generator's. Here a round starts with the generator's, which
        # is the same cycle started at its other half.
        for _ in range(self.settings.generator_steps):
            self._step_generator()
        return Batch(self.fakes.fresh(n))

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """The gap on the fakes of `batch`: mean |S(x) - T(x)| of raw logits."""
        with torch.no_grad():
            logits = self.teacher.fast(batch.x)
        return logit_gap(student(batch.x), logits)

    def restart(self) -> bool:
        self.fakes.restart()
        return True

    def state(self) -> dict[str, Stateful]:
        return self.fakes.state()

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return (self.fakes.optimizer,)

    def _step_generator(self) -> None:
        """One Adam step of the generator that raises the gap; the gradient flows through both networks to the fakes."""
        settings, student = self.settings, self.problem.student
        teacher = self.teacher if settings.statistics else self.teacher.fast  # the fast one has no batch norms to read
        student_mode = evaluating(student) if settings.student_eval_in_generator_step else contextlib.nullcontext()
        reading = norm_statistics(self.teacher.network, settings.statistics > 0)
        with frozen(student), student_mode, reading as statistics, self.runtime.autocast():
            x = self.fakes.learned(self.fakes.noise())
            gap = logit_gap(self.student(x), teacher(x))
        loss = -torch.log1p(gap) if settings.objective == "log-gap" else -gap
        if statistics:
            distance = statistics_distance(statistics.values(), scale_free=True)
            loss = loss + settings.statistics * distance
            self.runtime.note("statistics_distance", distance)
        self.runtime.minimize(loss, self.fakes.optimizer)
        self.runtime.note("generator_gap", gap)
