"""What a data-free method is: frozen settings that start a synthesizer, and the synthesizer's three verbs."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from datafree.core.runtime import Runtime
from datafree.core.settings import Settings
from datafree.core.spec import InputSpec
from datafree.core.state import Stateful
from datafree.data.pool import Batch
from datafree.engine.look import Look, kd
from datafree.networks.outputs import noise_for, probe
from datafree.networks.taps import first_non_finite, norm_names
from datafree.networks.teacher import Teacher


@dataclass(frozen=True)
class Problem:
    """Who teaches, who learns, on what inputs."""

    teacher: Teacher
    student: nn.Module
    inputs: InputSpec
    classes: int
    task: str = "classification"

    @property
    def has_student(self) -> bool:
        """Whether there is a student, which there is not where a set is synthesised."""
        return not isinstance(self.student, NoStudent)

    def refuse_other_tasks(self, method: str, *served: str) -> None:
        """Raise `ValueError` unless the task is classification or among `served`."""
        if self.task not in ("classification", *served):
            raise ValueError(
                f"{method} serves {', '.join(('classification', *served))} so far, not {self.task}; use dfad, or stored with "
                "images of your own."
            )

    def norms(self, method: str) -> list[str]:
        """Names of the teacher's batch norms; raises `ValueError`, with the methods that serve it, where it has none."""
        if names := norm_names(self.teacher.network):
            return names
        raise ValueError(
            f"{method} matches batch-norm statistics, and this teacher has none; dfad serves it, and sttss where it ends in a "
            "linear layer."
        )

    def check(self) -> None:
        """Pass two inputs of noise through both networks.

        Raises `ValueError` where one refuses the shape, they answer in different shapes or with another number of classes
        than the card's, or the teacher's answer holds a NaN or an infinity.
        """
        teachers = self.check_teacher()
        own = probe("student", self.student, self.inputs)
        self._right_classes("student", own)
        if own.shape != teachers.shape:
            raise ValueError(
                f"The student answers {self.inputs} with {list(own.shape[1:])} and the teacher with "
                f"{list(teachers.shape[1:])}; give two that answer in the same shape."
            )

    def check_teacher(self) -> Tensor:
        """`check` of the teacher alone, for work that needs no student; its answer."""
        answer = probe("teacher", self.teacher.network, self.inputs)
        self._right_classes("teacher", answer)
        if not answer.isfinite().all():
            layer = first_non_finite(self.teacher.network, noise_for(self.teacher.network, self.inputs))
            raise ValueError(
                f"The teacher's outputs for noise are not finite, first in layer {layer!r}; check its weights, mean and std."
            )
        return answer

    def _right_classes(self, name: str, answer: Tensor) -> None:
        if answer.shape[1] != self.classes:
            raise ValueError(
                f"The {name} tells {answer.shape[1]} classes apart and the teacher's card {self.classes}; "
                "build it for the same number."
            )


class NoStudent(nn.Module):
    """Stands for the student where a set is synthesised before there is one; nothing may ask it."""

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("a method that says it needs no student asked it")


class Synthesizer(ABC):
    """A method at work on one problem. `look` is how the student sees images, for methods that leave the loss as it is."""

    reads_targets = False
    """Whether the loss reads the targets that images were made for, so that a pool keeps them."""

    def __init__(self, problem: Problem, runtime: Runtime, look: Look | None = None):
        self.problem, self.runtime, self.look = problem, runtime, look
        self.teacher = problem.teacher
        self.teacher.fold()

    def at(self, done: float) -> None:
        """The run begins a round with this share of its rounds done, for settings that change over a run."""

    def preparation(self) -> tuple[int, int]:
        """Slices of work done, and in all, that come before the first input; a run saves itself between two of them."""
        return 0, 0

    def prepare(self) -> None:
        """The next slice of that work."""

    @abstractmethod
    def synthesize(self, n: int) -> Batch:
        """`n` inputs for the student to look at next, detached."""

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """What the student minimises on `batch`, a scalar: knowledge distillation on augmented images, by default."""
        assert self.look
        x = self.look(batch.x, self.runtime.random)
        with torch.no_grad():
            answer = self.teacher.fast(x)
        self.on_student_batch(student, x, answer)
        return kd(student(x), answer, self.look.temperature)

    def restart(self) -> bool:
        """Begin anew, where what it makes has collapsed; False where there is nothing to begin anew with."""
        return False

    @abstractmethod
    def state(self) -> dict[str, Stateful]:
        """Every part that must survive a restart, by name."""

    def on_student_batch(self, student: nn.Module, x: Tensor, answer: Tensor) -> None:
        """Learn from what the student is shown: x [B, C, H, W], augmented, and the teacher's answer [B, classes] to it."""

    def student_parameters(self) -> tuple[nn.Parameter, ...]:
        """Weights of the method's own that the student's optimizer trains together with the student."""
        return ()

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        """Optimizers of the method's own whose rates follow the plan's schedule."""
        return ()

    def pictures(self) -> dict[str, Tensor]:
        """What is worth looking at beside the images themselves, by name: uint8 [3, H, W] each."""
        return {}

    def provenance(self) -> str:
        """Which real data the inputs come from; `none` where the method is data-free."""
        return "none"


class Method(Settings, ABC):
    """Frozen, validated settings of a data-free method; each field is a flag of the command line."""

    name: str
    """The method's name, by which settings are read back."""

    @property
    def adversarial(self) -> bool:
        """Whether the inputs depend on the student as it stands."""
        return False

    @abstractmethod
    def start(self, problem: Problem, runtime: Runtime) -> Synthesizer:
        """Begin work on `problem`. Raises `ValueError` for what the method cannot serve."""

    def files(self) -> tuple[Path, ...]:
        """Files whose bytes the method reads, so that a changed file is not taken for the same run."""
        return ()
