"""The interface of a data-free method: frozen settings that start a synthesizer, and the synthesizer itself."""

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
from datafree.networks.inside.taps import norm_names
from datafree.networks.outputs import gradient_arrives, probe, refuse_broken, trainable
from datafree.networks.teacher import Teacher


@dataclass(frozen=True)
class Problem:
    """A teacher and a student, with the inputs, classes and task that they share."""

    teacher: Teacher
    student: nn.Module
    inputs: InputSpec
    classes: int
    task: str = "classification"

    @property
    def has_student(self) -> bool:
        """Whether there is a student; there is none while a set is synthesised."""
        return not isinstance(self.student, NoStudent)

    def refuse_other_tasks(self, method: str, *supported: str) -> None:
        """Raise `ValueError` unless the task is classification or one of `supported`."""
        if self.task not in ("classification", *supported):
            raise ValueError(
                f"{method} supports {' and '.join(('classification', *supported))}, not {self.task}; use dfad, or stored with "
                "your own images."
            )

    def norms(self, method: str) -> list[str]:
        """Names of the teacher's batch norms. Raises `ValueError`, which names other methods, if there are none."""
        if names := norm_names(self.teacher.network):
            return names
        raise ValueError(
            f"{method} matches batch-norm statistics, and this teacher has none; use dfad, or sttss if the teacher ends in a "
            "linear layer."
        )

    def check(self, method: "Method | None" = None) -> None:
        """Pass two inputs of noise through both networks.

        Raises `ValueError` if one fails on inputs of this shape, if their logits differ in shape, have another number of
        classes than the card, if the student cannot be trained, if the teacher's logits hold a NaN or an
        infinity or are no logits, or if `method` needs a gradient that the teacher does not give.
        """
        teacher_logits = self.check_teacher(method)
        student_logits = probe("student", self.student, self.inputs)
        self._check_classes("student", student_logits)
        if not trainable(self.student, self.inputs):
            raise ValueError(
                "The student's outputs carry no gradient to its weights: its forward runs under no_grad or detaches, or its "
                "weights are frozen; change that."
            )
        if student_logits.shape != teacher_logits.shape:
            raise ValueError(
                f"For inputs of {self.inputs} the student returns logits {list(student_logits.shape[1:])} and the teacher "
                f"{list(teacher_logits.shape[1:])}; give two networks with logits of the same shape."
            )

    def check_teacher(self, method: "Method | None" = None) -> Tensor:
        """Check only the teacher, as `check` does, for work without a student; returns its logits."""
        logits = probe("teacher", self.teacher.network, self.inputs)
        self._check_classes("teacher", logits)
        refuse_broken("teacher", self.teacher.network, self.inputs, logits)
        self.teacher.refuse_outputs()
        if method is not None and method.needs_gradient and not gradient_arrives(self.teacher.network, self.inputs):
            raise ValueError(
                f"{method.name} follows the teacher's gradient to its inputs, and none arrives: it runs under no_grad, "
                "detaches or rounds; change that, or use procedural, or stored with your own images, which need none."
            )
        return logits

    def _check_classes(self, name: str, logits: Tensor) -> None:
        if logits.shape[1] != self.classes:
            raise ValueError(
                f"The {name} has {logits.shape[1]} classes and the teacher's card {self.classes}; build it for the same number."
            )


class NoStudent(nn.Module):
    """Takes the place of the student while a set is synthesised; it must not be called."""

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("a method that is not adversarial called the student")


class Synthesizer(ABC):
    """A method at work on one problem. `look` is how the student sees images, for methods that keep the default loss."""

    reads_targets = False
    """Whether the loss uses the targets that images were made for, so that a pool keeps them."""

    def __init__(self, problem: Problem, runtime: Runtime, look: Look | None = None):
        self.problem, self.runtime, self.look = problem, runtime, look
        self.teacher = problem.teacher
        self.teacher.fold()

    def at(self, done: float) -> None:
        """The run begins a round with this share of its rounds done, for settings that change over a run."""

    def preparation(self) -> tuple[int, int]:
        """Number of slices of work before the first input: those done, and all. A run can save between two slices."""
        return 0, 0

    def prepare(self) -> None:
        """Do the next slice of the work before the first input."""

    @abstractmethod
    def synthesize(self, n: int) -> Batch:
        """The next `n` inputs for the student, detached."""

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """The student's loss on `batch`, a scalar; by default knowledge distillation on augmented images."""
        assert self.look
        x = self.look(batch.x, self.runtime.random)
        with torch.no_grad():
            logits = self.teacher.fast(x)
        self.on_student_batch(student, x, logits)
        return kd(student(x), logits, self.look.temperature)

    def restart(self) -> bool:
        """Begin anew, where what it makes has collapsed; False where there is nothing to begin anew with."""
        return False

    @abstractmethod
    def state(self) -> dict[str, Stateful]:
        """Every part that a checkpoint must keep, by name."""

    def on_student_batch(self, student: nn.Module, x: Tensor, logits: Tensor) -> None:
        """Train the method's networks on a batch of the student: x [B, C, H, W], augmented, with the teacher's logits."""

    def student_parameters(self) -> tuple[nn.Parameter, ...]:
        """The method's weights that the student's optimizer trains together with the student."""
        return ()

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        """The method's optimizers whose learning rates follow the plan's schedule."""
        return ()

    def pictures(self) -> dict[str, Tensor]:
        """Pictures for a person besides the images themselves, uint8 [3, H, W], by name."""
        return {}

    def provenance(self) -> str:
        """Real data that the inputs come from; `none` if the method is data-free."""
        return "none"


class Method(Settings, ABC):
    """Frozen, validated settings of a data-free method; each field is a flag of the command line."""

    name: str
    """Name of the method, by which a record finds its class."""

    @property
    def adversarial(self) -> bool:
        """Whether the inputs depend on the current student."""
        return False

    @property
    def needs_gradient(self) -> bool:
        """Whether the method needs the teacher's gradient to its inputs."""
        return True

    @abstractmethod
    def start(self, problem: Problem, runtime: Runtime) -> Synthesizer:
        """Start the method on `problem`. Raises `ValueError` if it does not support the networks, inputs or task."""

    def files(self) -> tuple[Path, ...]:
        """Files that the method reads; their hashes are part of a run's identity."""
        return ()
