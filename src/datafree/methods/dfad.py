"""DFAD: data-free adversarial distillation (Fang et al., arXiv 1912.11006).

A generator and the student play a min-max game around the frozen teacher: the generator raises the gap between the two
networks' logits, the student lowers it on fresh fakes. No real data, no labels, no class priors; no batch-norm statistics
either, unless asked for.
"""

import contextlib
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from datafree.losses import logit_gap, statistics_distance
from datafree.method import Method, Problem, Synthesizer
from datafree.modes import evaluating, fastest_layout, frozen
from datafree.nets.generators import GENERATORS
from datafree.ranks import parallel
from datafree.runtime import Runtime
from datafree.state import Stateful
from datafree.taps import NormStatistics, norm_statistics
from datafree.transfer import Batch


class DFAD(Method):
    """Settings of DFAD; the defaults are the CIFAR ones of the authors' code."""

    name: Literal["dfad"] = "dfad"
    counted: ClassVar[tuple[str, ...]] = ("batch",)

    latent: PositiveInt = 256
    """Size of the noise z, numbers."""
    generator: Literal["upsample", "dcgan"] = "upsample"
    """upsample: the paper's generator for 32x32 (sides in multiples of 4); dcgan: the one for 128x128 (of 16)."""
    width: PositiveInt = 128
    """Channels of the generator; the paper's are 128 (upsample) and 64 (dcgan)."""
    batch: PositiveInt = 256
    """Images in one pass of the generator, whose batch norm sees them together."""
    lr: PositiveFloat = 1e-3
    """Learning rate of the generator's Adam."""
    ascents: PositiveInt = 1
    """Steps of the generator in a round."""
    objective: Literal["gap", "log-gap"] = "gap"
    """What the generator raises: the gap, or log(1 + gap), the paper's choice for segmentation."""
    student_eval_in_generator_step: bool = False
    """Keep the student's batch norm still while the generator learns; the authors' code lets it move."""
    statistics: NonNegativeFloat = 0.0
    """Weight of the distance, layer by layer in shares, between the fakes' statistics and those that the teacher's norms
    remember. Not DFAD's: the term is that of Choi et al. (arXiv 2005.04136), its measure DeepInversion's made scale-free."""

    @property
    def adversarial(self) -> bool:
        """The generator looks for inputs on which this student fails."""
        return True

    def start(self, problem: Problem, runtime: Runtime) -> "Adversary":
        """Begin with a fresh generator.

        Raises `ValueError` for a task or an image size that it does not serve, and for statistics of a teacher without norms.
        """
        problem.refuse_other_tasks("dfad", "segmentation")
        if self.statistics:
            problem.norms("dfad with statistics")
        return Adversary(self, problem, runtime)

    def rehearsal(self) -> "DFAD":
        return self.model_copy(update={"batch": min(self.batch, 8)})


class Adversary(Synthesizer):
    """DFAD at work: a generator that looks for inputs on which student and teacher differ."""

    def __init__(self, settings: DFAD, problem: Problem, runtime: Runtime):
        self.settings, self.problem, self.runtime = settings, problem, runtime
        self.teacher = problem.teacher.folded(problem.inputs)
        generator = GENERATORS[settings.generator](problem.inputs.shape, settings.latent, settings.width)
        self.generator = fastest_layout(generator.to(runtime.device)).train()
        self.maker, self.learner = runtime.compiled(self.generator), runtime.compiled(parallel(self.generator))
        self.student = runtime.compiled(problem.student)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), settings.lr, fused=True)

    def synthesize(self, n: int) -> Batch:
        """Move the generator up the gap, then n fresh fakes from new noise."""
        # The authors' code takes the student's steps first, then the generator's; opening the round with the
        # generator's step is the same cycle, begun one step earlier.
        for _ in range(self.settings.ascents):
            self._ascend()
        x = torch.empty(n, *self.problem.inputs.shape, device=self.runtime.device, memory_format=torch.channels_last)
        with torch.no_grad():
            for part in x.split(self.settings.batch):  # copied out one by one: a CUDA graph writes its next answer over it
                part.copy_(self._fakes(self.maker, len(part)))
        return Batch(x)

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """The gap on these fakes: mean |S(x) - T(x)| of raw logits."""
        with torch.no_grad():
            target = self.teacher(batch.x)
        return logit_gap(student(batch.x), target)

    def state(self) -> dict[str, Stateful]:
        return {"generator": self.generator, "optimizer": self.optimizer}

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return (self.optimizer,)

    def _fakes(self, generator: nn.Module, n: int) -> Tensor:
        with self.runtime.autocast():
            return generator(self.runtime.noise(n, self.settings.latent)).float()  # type: ignore[no-any-return]

    def _ascend(self) -> None:
        """One Adam step on the generator against the gap; the gradient flows through both networks into the fakes."""
        settings, student, teacher = self.settings, self.problem.student, self.teacher
        still = evaluating(student) if settings.student_eval_in_generator_step else contextlib.nullcontext()
        reading: contextlib.AbstractContextManager[dict[str, NormStatistics]] = contextlib.nullcontext({})
        if settings.statistics:  # the folded teacher has no norms to read
            teacher, reading = self.problem.teacher, norm_statistics(self.problem.teacher.network)
        with frozen(student), still, reading as seen, self.runtime.autocast():
            x = self._fakes(self.learner, settings.batch)
            gap = logit_gap(self.student(x), teacher(x))
        loss = -torch.log1p(gap) if settings.objective == "log-gap" else -gap
        if seen:
            distance = statistics_distance(seen.values(), scale_free=True)
            loss = loss + settings.statistics * distance
            self.runtime.note("statistics_distance", distance)
        self.runtime.minimize(loss, self.optimizer)
        self.runtime.note("generator_gap", gap)
