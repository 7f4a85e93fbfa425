"""The shape of an input and the number of classes of a file of weights, where a caller left them out."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from datafree.core.settings import Option
from datafree.core.spec import InputSpec, Shape
from datafree.networks.building.limits import SCRATCH, SPARE
from datafree.networks.inside.sizes import answers_of, found_shape, last_classes
from datafree.networks.network import Card, outlined
from datafree.networks.saved.checkpoints import holds
from datafree.networks.saved.weights import Checkpoint


@dataclass
class Trial:
    """Networks of one architecture for inputs of several shapes, which are built without memory.

    `failure` is why the last one that failed could not be built, `built` the shapes of the others; `named` says whether the
    weights have the names of one of them.
    """

    architecture: str
    options: Mapping[str, Option]
    checkpoint: Checkpoint
    classes: int
    allow_code: Collection[str]
    failure: ValueError | None = None
    built: list[Shape] = field(default_factory=list)
    named: bool = False

    def __call__(self, shape: Shape) -> int | None:
        """The number of classes that the network of the weights gives for an input of this shape; None if it takes none."""
        card = Card(
            architecture=self.architecture, options=dict(self.options), classes=self.classes, inputs=InputSpec(shape=shape)
        )
        held = sum(value.numel() for value in self.checkpoint.largest.values())
        try:
            module = outlined(card, self.allow_code, max(SCRATCH, 4 * held), 2 * held + SPARE)
        except ValueError as error:
            self.failure = error
            return None
        self.built.append(shape)
        states, expected = self.checkpoint.states, module.state_dict()
        self.named = self.named or holds(states, expected, shapes=False)
        return answers_of(module)(shape) if holds(states, expected) else None


def complete(
    architecture: str,
    options: Mapping[str, Option],
    checkpoint: Checkpoint,
    shape: Shape | None,
    classes: int | None,
    usual: int | None = None,
    allow_code: Collection[str] = (),
) -> tuple[Shape, int]:
    """`shape` and `classes`, and in place of one that is None what the weights and a probe without memory say.

    `usual` is the number of classes where they say none. Of weights with other names than the network's any shape is returned,
    since none fits.

    Raises `ValueError`, which says what is known, if that is not one value; and as `build` does, if nothing can be built.
    """
    weights = checkpoint.largest.values()
    rows = classes or last_classes(weights) or usual
    if rows is None:
        raise ValueError(f"The weights for {architecture} have no last layer of several classes; pass --classes.")
    trial = Trial(architecture, options, checkpoint, rows, allow_code)
    if shape is not None:
        return shape, classes or trial(shape) or usual or rows
    try:
        shape, found = found_shape(architecture, weights, trial)
    except ValueError:
        if trial.failure and not trial.built:
            raise trial.failure from None
        if trial.named:
            raise
        return trial.built[0], rows
    return shape, classes or found


def said(inputs: InputSpec, classes: int, by_caller: tuple[bool, bool]) -> Iterator[str]:
    """What was found in place of inputs, and of classes, that were not given `by_caller`, for a person."""
    if not by_caller[0]:
        scaled = "" if (inputs.mean, inputs.std) != ((0.0,), (1.0,)) else ", pixels in [0, 1]"
        yield (
            f"inputs of {inputs}{scaled}: the only usual square size that fits; pass --inputs, --mean and --std if they are "
            "others"
        )
    if not by_caller[1]:
        yield f"{classes} classes: the outputs of the last layer"
