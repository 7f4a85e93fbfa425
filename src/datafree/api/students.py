"""The function `students`: smaller networks that may learn from a teacher, with their sizes."""

from collections.abc import Collection

import torch

from datafree.core.modes import keeping_random
from datafree.core.spec import InputSpec, Shape
from datafree.networks.shrink.candidates import Candidate
from datafree.networks.shrink.choose import listed
from datafree.networks.sources import Source, as_network


def students(
    teacher: Source,
    student: str | None = None,
    *,
    inputs: InputSpec | None = None,
    student_inputs: Shape | None = None,
    allow_code: Collection[str] = (),
) -> list[Candidate]:
    """Smaller networks that may learn from `teacher`: each was built, run, saved and loaded again.

    Args:
        teacher: as in `distill`.
        student: size asked for, as in `distill` (`4x`, `4x-compute`, `5ms`, `2MB`): the first of the list is the one that
            `distill` takes, the last the pruned teacher, if torch-pruning is installed and can do it; None: one for each of
            several sizes.
        inputs: shape and scaling of one input; needed for a plain module, and replaces those of a card.
        student_inputs: channels, height and width to which a student resizes its inputs inside; None: it does not.
        allow_code: packages whose code may be imported and called to build the teacher and the students.

    Returns:
        The candidates, with name (which `distill` takes), weights, multiply-adds, latency on this CPU and size of the file.

    Raises:
        ValueError: the teacher cannot be read, the text is no size, or no network is as small as that.
    """
    network = as_network(teacher, inputs, allow_code, "teacher")
    with keeping_random(torch.device("cpu")):
        return listed(network, student, student_inputs, allow_code).candidates
