"""Teachers and students from any form in which a caller gives them: a module, a `Network`, a file, a name."""

from collections.abc import Collection
from pathlib import Path

from torch import Tensor, nn

from datafree.core.spec import InputSpec
from datafree.networks.build import build
from datafree.networks.estimate import refuse_costly
from datafree.networks.folders import load
from datafree.networks.network import Card, Network
from datafree.networks.outputs import TASKS, probe, refuse_broken
from datafree.networks.weights import refuse_non_finite

Source = nn.Module | Network | str | Path


def as_network(
    source: Source, inputs: InputSpec | None = None, allow_code: Collection[str] = (), role: str = "network"
) -> Network:
    """Any form of a network, with a card; `inputs`, if given, replaces those of the card, and `role` names it in errors.

    Raises `ValueError` for a file that cannot be read, a plain module without `inputs`, and a network that does not return what
    its card says, whose weights or answers are not finite, or of which a pass is beyond the limits of `networks/estimate.py`.
    """
    if isinstance(source, str | Path):
        source = load(source, allow_code)
    if isinstance(source, Network):
        card = source.card.model_copy(update={"inputs": inputs}) if inputs else source.card
        card.check(_checked(role, source.module, card.inputs))
        return Network(source.module, card)
    if inputs is None:
        raise ValueError("A plain module has no input description; pass inputs=InputSpec(shape=..., mean=..., std=...).")
    logits = _checked(role, source, inputs)
    task = TASKS[logits.dim()]
    return Network(source, Card(architecture=_class_path(source), classes=logits.shape[1], task=task, inputs=inputs))


def _checked(role: str, module: nn.Module, inputs: InputSpec) -> Tensor:
    """The logits of `module` for noise, which are finite. Raises as `as_network` does."""
    refuse_non_finite(module, f"the {role}")
    refuse_costly(role, module, inputs)
    logits = probe(role, module, inputs)
    refuse_broken(role, module, inputs, logits)
    return logits


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
