"""The student of a run: an architecture by name, or the one that a request for a size takes, and the weights it begins with."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datafree.core.distributed import broadcast, is_main
from datafree.core.files import path_fingerprint
from datafree.core.modes import keeping_random
from datafree.core.spec import Shape
from datafree.core.spelling import spelled
from datafree.engine.progress import print_line
from datafree.engine.record import taken_before
from datafree.networks.network import Network
from datafree.networks.saved.weights import refuse_non_finite, shapes_fingerprint
from datafree.networks.shrink.choose import Chooser
from datafree.networks.shrink.pruning import prune
from datafree.networks.shrink.request import Request, parse_request
from datafree.networks.sources import student_for
from datafree.networks.start import TEACHER, start_from


@dataclass(frozen=True)
class Student:
    """The student of a run before its first round.

    Args:
        network: module and card.
        request: the size asked for, as the caller wrote it; empty for a name or a module.
        weights: the file whose weights it begins with, or `teacher`; None: random weights.
        notes: entries of the record: why it was taken, and what it begins with.
    """

    network: Network
    request: str = ""
    weights: str | None = None
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """What a run with this student is known by; entries that most runs do not have are left out."""
        card = self.network.card
        extra = {"request": self.request, "weights": self.weights, "resized_to": card.resized_to}
        return {
            "architecture": card.architecture,
            "options": dict(card.options),
            "layout": shapes_fingerprint(self.network.module),
            **{name: value for name, value in extra.items() if value},
        }

    def files(self) -> dict[str, str]:
        """The file that it begins with, and its fingerprint."""
        return {self.weights: path_fingerprint(Path(self.weights))} if self.weights and self.weights != TEACHER else {}

    def tell(self, quiet: bool) -> None:
        """Print the notes."""
        for note in self.notes.values():
            print_line(f"student: {note}", quiet or not is_main())


def prepare_student(
    student: nn.Module | Network | str,
    teacher: Network,
    out: str | Path | None = None,
    resized_to: Shape | None = None,
    weights: str | Path | None = None,
    allow_code: Collection[str] = (),
) -> Student:
    """The student that a caller names or asks for; of a run in `out` that asked for the same size, the one that it took.

    Raises `ValueError` as `student_for`, `Chooser.answer` and `start_from` do.
    """
    request = parse_request(student) if isinstance(student, str) else None
    notes: dict[str, str] = {}
    if request:
        request.refuse_unknown(teacher.parameters)
    if request and request.pruned:
        student = prune(teacher, request)
        notes["student_choice"] = f"the teacher without some channels for {request.text}: {student.parameters:,} weights"
    elif request:
        student, notes["student_choice"] = _resolved(request, teacher, out, resized_to, allow_code)
    network = student_for(student, teacher.card, resized_to, allow_code)
    if weights is not None:
        notes["student_start"] = f"begins with {start_from(network.module, weights, teacher.module)}"
        refuse_non_finite(network.module, f"the student that begins with {weights}")
    return Student(network, request.text if request else "", None if weights is None else str(weights), notes)


def _resolved(
    request: Request, teacher: Network, out: str | Path | None, resized_to: Shape | None, allow_code: Collection[str]
) -> tuple[str, str]:
    """The student that `request` takes, as a name with its options, and why; the same in every process and after a resume."""
    if out and (before := taken_before(Path(out), request.text)):
        architecture, options, reason = before
        return spelled(architecture, options), reason
    found: tuple[str, str] | None = None
    problem = ""
    try:
        with keeping_random(torch.device("cpu")):
            choice = Chooser(teacher, resized_to, allow_code).answer(request)
        found = choice.candidates[0].name, choice.reason
    except ValueError as error:  # on one process only, perhaps: a latency differs
        problem = str(error)
    found, problem = broadcast((found, problem))
    if not found:
        raise ValueError(problem)
    return found
