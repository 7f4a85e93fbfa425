"""ZSKT: zero-shot knowledge transfer (Micaelli and Storkey, NeurIPS 2019, arXiv 1905.09768).

A generator looks for images on which the student's answer diverges from the teacher's; then the student takes several steps
on that one batch, on the divergence and on the attention maps of the networks' stages.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from datafree.core.modes import evaluating, frozen
from datafree.core.runtime import Runtime
from datafree.core.settings import Images
from datafree.core.state import Stateful
from datafree.data.pool import Batch
from datafree.engine.look import Look, kd
from datafree.engine.method import Method, Problem, Synthesizer
from datafree.methods.common.fakes import Fakes
from datafree.methods.common.generators import Latent
from datafree.methods.common.losses import attention_distance
from datafree.networks.inside.taps import layer_outputs, stage_maps
from datafree.networks.outputs import noise_for


class ZSKT(Method):
    """Settings of ZSKT; the defaults are those of the authors' code for CIFAR-10."""

    name: Literal["zskt"] = "zskt"
    latent: Latent = Latent(size=100, generator="upsample-affine", width=128)
    """The generator."""
    batch: Images = 128
    """Images in a batch; give the plan the same, so that a step of the student sees one whole batch."""
    reuses: PositiveInt = 10
    """Student steps on a batch; the plan's steps are a multiple of it, and as many in the paper."""
    lr: PositiveFloat = 1e-3
    """Learning rate of the generator's Adam."""
    clip: NonNegativeFloat = 5.0
    """Largest L2 norm of the generator's gradient; 0: no limit. The student's is the plan's clip."""
    attention: NonNegativeFloat = 250.0
    """Weight of the distance of the networks' attention maps in the student's loss; 0: it is not read inside."""
    look: Look = Look(temperature=1.0)
    """How the student sees the images; the generator's divergence has temperature 1 always."""

    @property
    def adversarial(self) -> bool:
        """The generator looks for inputs on which this student fails."""
        return True

    def start(self, problem: Problem, runtime: Runtime) -> "ZSKTSynthesizer":
        """Begin with a fresh generator.

        Raises `ValueError` for a task or an image size that it does not serve, and for attention between networks whose
        feature maps have different sizes.
        """
        problem.refuse_other_tasks("zskt")
        return ZSKTSynthesizer(self, problem, runtime)


class ZSKTSynthesizer(Synthesizer):
    """ZSKT at work: the generator, and the stages whose attention is matched."""

    def __init__(self, settings: ZSKT, problem: Problem, runtime: Runtime):
        super().__init__(problem, runtime, settings.look)
        self.settings = settings
        self.fakes = Fakes(settings.latent, settings.batch, settings.lr, problem, runtime)
        self.student = runtime.compiled(problem.student)
        self.stages: list[tuple[str, str]] = []  # the student's name and the teacher's, of each
        if settings.attention:
            runtime.refuse_compiled("The attention term")
            self.stages = matched_stages(problem)

    def synthesize(self, n: int) -> Batch:
        """n fakes: each batch `reuses` times in a row, so that consecutive slices of its size are whole batches."""
        batches = self._repeated()
        return Batch(self.fakes.in_passes(n, lambda size: next(batches)[:size]))

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """The divergence, divided by the number of classes as in the authors' code, and the weighted attention distance."""
        assert self.look
        own, theirs = [name for name, _ in self.stages], [name for _, name in self.stages]
        x = self.look(batch.x, self.runtime.random)
        with torch.no_grad(), layer_outputs(self.teacher.folded, *theirs) as outside:
            answer = self.teacher.fast(x, readable=bool(theirs))
        with layer_outputs(student, *own) as inside:
            guess = student(x)
        loss = kd(guess, answer, self.look.temperature) / self.problem.classes
        for one, other in self.stages:
            loss = loss + self.settings.attention * attention_distance(inside[one], outside[other])
        return loss

    def restart(self) -> bool:
        self.fakes.restart()
        return True

    def state(self) -> dict[str, Stateful]:
        return self.fakes.state()

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return (self.fakes.optimizer,)

    def _repeated(self) -> Iterator[Tensor]:
        """Batches of fakes, each after a step of the generator on the same noise, as often as the student learns from it."""
        while True:
            z = self.fakes.noise()
            self._ascend(z)
            x = self.fakes.images(z)
            for _ in range(self.settings.reuses):
                yield x

    def _ascend(self, z: Tensor) -> None:
        """One Adam step on the generator up the divergence KL(T || S) of the fakes of z; the student is in train mode."""
        with frozen(self.problem.student), self.runtime.autocast():
            x = self.fakes.learned(z)
            divergence = kd(self.student(x), self.teacher.fast(x), temperature=1.0) / self.problem.classes
        self.runtime.minimize(-divergence, self.fakes.optimizer, self.settings.clip)
        self.runtime.note("generator_divergence", divergence)


def matched_stages(problem: Problem) -> list[tuple[str, str]]:
    """Names of the student's and the teacher's stages whose last feature maps have one size.

    Raises `ValueError` where one has maps of a size that the other has not.
    """
    x = noise_for(problem.teacher.network, problem.inputs)
    with evaluating(problem.student):
        own = stage_maps(problem.student, x)
    theirs = stage_maps(problem.teacher.network, x)
    if own.keys() != theirs.keys():
        student, teacher = (", ".join(f"{high}x{wide}" for high, wide in maps) or "none" for maps in (own, theirs))
        raise ValueError(
            f"zskt matches attention stage by stage, and the student's feature maps are {student}, the teacher's {teacher}; "
            "pass --method.attention 0."
        )
    return [(own[size], theirs[size]) for size in theirs]
