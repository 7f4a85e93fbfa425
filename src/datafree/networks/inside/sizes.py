"""Which inputs a network takes, found in its first layer and by a probe, and how many classes its last layer has."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from datafree.core.modes import evaluating, keeping_random
from datafree.core.shortages import is_out_of_memory
from datafree.core.spec import Shape
from datafree.networks.building.limits import FOREIGN
from datafree.networks.outputs import TASKS, logits_of

SIDES = (8, 16, 28, 32, 40, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 288, 299, 320, 384, 448, 512)  # usual ones, pixels
USUAL = (3, 1)  # channels where no convolution says them
MOST_CHANNELS = 64  # of an input; a first layer that takes more is none of an image
Answers = Callable[[Shape], int | None]
"""The number of classes that a network gives for one input of that shape; None if it fails for it."""


def found_shape(what: str, weights: Iterable[Tensor], answers: Answers) -> tuple[Shape, int]:
    """The only usual square shape of inputs for which `answers` gives a number of classes, and that number.

    Channels are those of the first convolution (or patch embedding) among `weights`, else three or one.

    Raises `ValueError`, a sentence that begins with `what` and says what is known, if no shape or more than one fits.
    """
    channels = first_channels(weights)
    fitting: list[tuple[Shape, int]] = []
    for shape in ((count, side, side) for count in ([channels] if channels else USUAL) for side in SIDES):
        if classes := answers(shape):
            fitting.append((shape, classes))
        if len(fitting) > 1:
            break
    if len(fitting) == 1:
        return fitting[0]
    known = f" takes {channels} channel{'s' * (channels > 1)}, and" if channels else ""
    wanted = f"{channels or 'CHANNELS'}xHEIGHTxWIDTH"
    if not fitting:
        raise ValueError(
            f"{what}{known} fits inputs of no usual square size, {SIDES[0]} to {SIDES[-1]} pixels; pass --inputs {wanted} "
            "to `datafree pack`, the size that it was trained on."
        )
    sizes = " and ".join("x".join(map(str, shape)) for shape, _ in fitting)
    raise ValueError(
        f"{what}{known} fits inputs of {sizes}, and perhaps of any size; pass --inputs {wanted} to `datafree pack`, the size "
        "that it was trained on."
    )


def first_channels(weights: Iterable[Tensor]) -> int | None:
    """Channels that the first convolution among `weights` takes; None if there is none, or it is none of an image."""
    first = next((value for value in weights if value.dim() == 4), None)
    return first.shape[1] if first is not None and 0 < first.shape[1] <= MOST_CHANNELS else None


def last_classes(weights: Iterable[Tensor]) -> int | None:
    """Outputs of the last linear layer or convolution among `weights`; None if there is none, or it has only one."""
    last = next((value for value in reversed([*weights]) if value.dim() in (2, 4)), None)
    return last.shape[0] if last is not None and last.shape[0] > 1 else None


def answers_of(module: nn.Module) -> Answers:
    """What `module` answers to one input of zeros."""

    def answers(shape: Shape) -> int | None:
        device = next((value.device for value in module.state_dict().values()), torch.device("cpu"))
        try:
            with keeping_random(device), evaluating(module), torch.no_grad():
                logits = logits_of(module(torch.zeros(1, *shape, device=device)))
        except FOREIGN as error:  # a network is code of others, which may raise anything for a size that it does not take
            if is_out_of_memory(error):
                raise
            return None
        return logits.shape[1] if isinstance(logits, Tensor) and logits.dim() in TASKS and logits.shape[1] > 1 else None

    return answers


def shape_hint(module: nn.Module) -> str:
    """The shape of inputs of `module` as Python writes it, as far as its first layer and a probe say it."""
    try:
        return str(found_shape("The network", module.parameters(), answers_of(module))[0])
    except ValueError:
        return f"({first_channels(module.parameters()) or 'CHANNELS'}, HEIGHT, WIDTH)"
