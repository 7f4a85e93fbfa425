"""What a data-free method is: frozen settings that start a synthesizer, and the synthesizer's three verbs."""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from datafree.answers import logits_of, noise_for, probe
from datafree.folding import folded
from datafree.modes import fastest_layout
from datafree.ranks import share
from datafree.runtime import Runtime
from datafree.settings import Settings
from datafree.spec import InputSpec
from datafree.state import Stateful
from datafree.taps import first_non_finite, norm_names
from datafree.transfer import Batch


class Teacher(nn.Module):
    """A frozen private copy of the user's teacher, which is never touched; counts the images it is asked about.

    Gradients pass through to the inputs, none are kept for the weights, and it stays in eval mode whatever is said.
    """

    def __init__(self, network: nn.Module, runtime: Runtime):
        super().__init__()
        self.network = fastest_layout(copy.deepcopy(network).to(runtime.device)).requires_grad_(False)
        self.runtime = runtime
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.runtime.counts["teacher_queries"] += len(x)
        return logits_of(self.network(x))  # type: ignore[return-value]

    def folded(self, inputs: InputSpec, read: bool = False) -> "Teacher":
        """The same teacher, counted together with this one, with batch norms folded into convolutions where that can be
        done: faster, equal up to rounding, and without those norms' statistics. It is compiled where the run asked for that,
        but for one that is to be `read` inside.
        """
        faster = Teacher(folded(self.network, noise_for(self.network, inputs)), self.runtime)
        if not read:
            faster.network = self.runtime.compiled(faster.network)
        return faster

    def train(self, mode: bool = True) -> "Teacher":
        super().train(False)
        return self


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
    """Stands for the student where a set is synthesised before there is one; to ask it anything is a mistake of ours."""

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("a method that says it needs no student asked it")


class Synthesizer(ABC):
    """A method at work on one problem."""

    def preparation(self) -> tuple[int, int]:
        """Slices of work done, and in all, that come before the first input; a run saves itself between two of them."""
        return 0, 0

    def prepare(self) -> None:
        """The next slice of that work."""

    @abstractmethod
    def synthesize(self, n: int) -> Batch:
        """`n` inputs for the student to look at next, detached."""

    @abstractmethod
    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """What the student minimises on `batch`, a scalar."""

    @abstractmethod
    def state(self) -> dict[str, Stateful]:
        """Every part that must survive a restart, by name."""

    def watch(self, student: nn.Module, x: Tensor, answer: Tensor) -> None:
        """Learn from what the student is shown: x [B, C, H, W], augmented, and the teacher's answer [B, classes] to it."""

    def companions(self) -> tuple[nn.Parameter, ...]:
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
    counted: ClassVar[tuple[str, ...]] = ()
    """Settings that count images of the whole run, of which each of several processes takes its part."""

    @property
    def adversarial(self) -> bool:
        """Whether the inputs depend on the student as it stands."""
        return False

    @abstractmethod
    def start(self, problem: Problem, runtime: Runtime) -> Synthesizer:
        """Begin work on `problem`. Raises `ValueError` for what the method cannot serve."""

    def shared(self) -> Self:
        """This process's part of the settings. Raises `ValueError` where they cannot be dealt out evenly."""
        return self.model_copy(update={name: share(getattr(self, name), f"--method.{name}") for name in self.counted})

    def rehearsal(self) -> "Method":
        """The same settings at the smallest size, for a dry run."""
        return self

    def files(self) -> tuple[Path, ...]:
        """Files whose bytes the method reads, so that a changed file is not taken for the same run."""
        return ()
