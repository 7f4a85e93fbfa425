"""Any form in which a person gives a network or data, as what the library works with."""

from collections.abc import Collection
from pathlib import Path

from torch import nn

from datafree.core.spec import InputSpec
from datafree.networks.build import build
from datafree.networks.network import Card, Network, load
from datafree.networks.outputs import TASKS, probe

Source = nn.Module | Network | str | Path


def as_network(source: Source, inputs: InputSpec | None = None, allow_code: Collection[str] = ()) -> Network:
    """Any form of a network with a card; `inputs`, where given, is believed over the card."""
    if isinstance(source, str | Path):
        source = load(source, allow_code)
    if isinstance(source, Network):
        card = source.card.model_copy(update={"inputs": inputs}) if inputs else source.card
        return Network(source.module, card)
    if inputs is None:
        raise ValueError("A plain module does not say what it takes; pass inputs=InputSpec(shape=..., mean=..., std=...).")
    answer = probe("network", source, inputs)
    task = TASKS[answer.dim()]
    return Network(source, Card(architecture=_class_path(source), classes=answer.shape[1], task=task, inputs=inputs))


def student_for(student: nn.Module | Network | str, teacher: Card) -> Network:
    """A student for the inputs, classes and task of `teacher`: an architecture's name, or a module to train in place."""
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
