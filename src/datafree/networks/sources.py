"""Teachers and students from any form in which a caller gives them: a module, a `Network`, a file, a name."""

from collections.abc import Collection
from pathlib import Path

from torch import nn

from datafree.core.spec import InputSpec
from datafree.networks.build import build
from datafree.networks.network import Card, Network, load
from datafree.networks.outputs import TASKS, probe
from datafree.networks.weights import refuse_non_finite

Source = nn.Module | Network | str | Path


def as_network(
    source: Source, inputs: InputSpec | None = None, allow_code: Collection[str] = (), role: str = "network"
) -> Network:
    """Any form of a network, with a card; `inputs`, if given, replaces those of the card, and `role` names it in errors.

    Raises `ValueError` for a file that cannot be read, a plain module without `inputs`, and a network that does not return what
    its card says, or whose weights are not finite.
    """
    if isinstance(source, str | Path):
        source = load(source, allow_code)
    if isinstance(source, Network):
        card = source.card.model_copy(update={"inputs": inputs}) if inputs else source.card
        refuse_non_finite(source.module, f"the {role}")
        card.check(probe(role, source.module, card.inputs))
        return Network(source.module, card)
    if inputs is None:
        raise ValueError("A plain module has no input description; pass inputs=InputSpec(shape=..., mean=..., std=...).")
    refuse_non_finite(source, f"the {role}")
    logits = probe(role, source, inputs)
    task = TASKS[logits.dim()]
    return Network(source, Card(architecture=_class_path(source), classes=logits.shape[1], task=task, inputs=inputs))


def student_for(student: nn.Module | Network | str, teacher: Card) -> Network:
    """A student with the inputs, classes and task of the card `teacher`, from an architecture's name or a module.

    A module is trained in place. Raises `ValueError` for a name that is unknown or does not fit the inputs.
    """
    if isinstance(student, str):
        module, architecture, options = build(student, teacher.inputs, teacher.classes), student, {}
    elif isinstance(student, Network):
        module, architecture, options = student.module, student.card.architecture, student.card.options
    else:
        module, architecture, options = student, _class_path(student), {}
    card = Card(architecture=architecture, options=options, classes=teacher.classes, task=teacher.task, inputs=teacher.inputs)
    return Network(module, card)


def _class_path(module: nn.Module) -> str:
    return f"{type(module).__module__}:{type(module).__qualname__}"
