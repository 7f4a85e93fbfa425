"""Teachers and students from any form in which a caller gives them: a module, a `Network`, a file, a name, a function."""

from collections.abc import Collection
from pathlib import Path

from torch import Tensor, nn

from datafree.core.settings import Option
from datafree.core.spec import InputSpec, Shape
from datafree.core.spelling import parse_spelling
from datafree.networks.architectures import ARCHITECTURES
from datafree.networks.black_box.box import NOTE, Ask, BlackBox
from datafree.networks.building.work import refuse_costly
from datafree.networks.inside.sizes import shape_hint
from datafree.networks.network import Card, Network, built
from datafree.networks.outputs import TASKS, probe, refuse_broken
from datafree.networks.programs.files import ASKED, BLACK_BOXES, PROGRAM
from datafree.networks.saved.weights import refuse_non_finite
from datafree.networks.shrink.resized import behind_resizing, resized_inputs
from datafree.networks.whole import load

Source = nn.Module | Network | str | Path | Ask


def as_network(
    source: Source, inputs: InputSpec | None = None, allow_code: Collection[str] = (), role: str = "network"
) -> Network:
    """Any form of a network, with a card; `inputs`, if given, replaces those of the card, and `role` names it in errors.

    A function that is no module becomes a `BlackBox`.

    Raises `ValueError` for a file that cannot be read, a plain module or a function without `inputs`, and a network that does
    not return what its card says, whose weights or answers are not finite, or of which a pass costs too much
    (`networks/building/work.py`).
    """
    if isinstance(source, str | Path):
        source = load(source, allow_code, inputs)
    if isinstance(source, Network):
        card = source.card.model_copy(update={"inputs": inputs}) if inputs else source.card
        card.check(_checked(role, source.module, card.inputs))
        return Network(source.module, card, source.notes)
    if isinstance(source, BlackBox):
        if inputs not in (None, source.inputs):
            raise ValueError(f"The black box was made for other inputs than {inputs}; leave inputs out, or make it for these.")
        return _asked(role, source)
    if inputs is None:
        if not isinstance(source, nn.Module):
            raise ValueError("A plain function has no input description; pass inputs=InputSpec(shape=..., mean=..., std=...).")
        raise ValueError(
            f"A plain module has no input description; pass inputs=InputSpec(shape={shape_hint(source)}, mean=..., std=...)."
        )
    if not isinstance(source, nn.Module):
        return _asked(role, BlackBox(source, inputs))
    logits = _checked(role, source, inputs)
    task = TASKS[logits.dim()]
    return Network(source, Card(architecture=_class_path(source), classes=logits.shape[1], task=task, inputs=inputs))


def _asked(role: str, box: BlackBox) -> Network:
    logits = probe(role, box, box.inputs)
    card = Card(architecture=ASKED, classes=logits.shape[1], task=TASKS[logits.dim()], inputs=box.inputs)
    return Network(box, card, (NOTE,))


def images_asked(source: Source) -> int:
    """Images that this process sent to a black box so far; 0 for any other network, and for one that is still to be made."""
    module = source.module if isinstance(source, Network) else source
    return module.asked if isinstance(module, BlackBox) else 0


def _checked(role: str, module: nn.Module, inputs: InputSpec) -> Tensor:
    """The logits of `module` for noise, which are finite. Raises as `as_network` does."""
    refuse_non_finite(module, f"the {role}")
    refuse_costly(role, module, inputs)
    logits = probe(role, module, inputs)
    refuse_broken(role, module, inputs, logits)
    return logits


def student_for(
    student: nn.Module | Network | str, teacher: Card, resized_to: Shape | None = None, allow_code: Collection[str] = ()
) -> Network:
    """A student with the inputs, classes and task of the card `teacher`.

    Args:
        student: an architecture with its options (`cifar-resnet,depth=26,width=12`), or a module, which is trained in place.
        teacher: the teacher's card.
        resized_to: shape to which the student resizes its inputs inside; None: it does not.
        allow_code: packages whose code may be imported and called to build the student.

    Returns:
        The student with its card.

    Raises:
        ValueError: the name is unknown, or does not fit the options or the inputs.
    """
    resized_inputs(teacher.inputs, resized_to)  # which refuses a shape that does not fit
    module: nn.Module | None = None
    options: dict[str, Option] = {}
    channels: dict[str, tuple[int, ...]] = {}
    if isinstance(student, str):
        architecture, options = parse_spelling(student)
        if architecture not in ARCHITECTURES and Path(student).is_file():
            raise ValueError(
                f"{student} is a file, and a student is an architecture, as --student resnet20 or 4x; to begin with the "
                f"weights of this file, add --student-weights {student}."
            )
    elif isinstance(student, Network) and student.card.architecture in (PROGRAM, *BLACK_BOXES):
        raise ValueError("A program cannot be trained, so it is no student; name an architecture, as resnet20.")
    elif isinstance(student, Network):
        module, architecture, options = student.module, student.card.architecture, student.card.options
        channels = student.card.channels
    else:
        module, architecture = student, _class_path(student)
    if isinstance(student, Network) and student.card.resized_to:
        resized_to = student.card.resized_to
    elif module is not None:
        module = behind_resizing(module, resized_to)
    card = Card(
        architecture=architecture,
        options=options,
        classes=teacher.classes,
        task=teacher.task,
        inputs=teacher.inputs,
        resized_to=resized_to,
        channels=channels,
    )
    return Network(built(card, allow_code) if module is None else module, card)


def _class_path(module: nn.Module) -> str:
    return f"{type(module).__module__}:{type(module).__qualname__}"
