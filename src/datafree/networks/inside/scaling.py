"""What the first batch norm says of the images that a network was trained on, and whether a card's mean and std fit it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from datafree.core.modes import evaluating
from datafree.core.spec import InputSpec
from datafree.networks.inside.statistics import moments
from datafree.networks.inside.taps import Norm, calls, layer_inputs, norm_names

FACTOR = 2.5  # by which a variance may differ: data sets of photographs, clothes and digits differ from drawings by up to 1.9
PIXELS = (0.03, 0.97)  # between which the mean pixel of a data set lies: that of digits on black is 0.13
SURE = 0.1  # standard error of a mean pixel, above which it counts as unknown
FEWEST = 66  # batches after which statistics have forgotten how they were first set: 0.9 to this power is 0.001
_DEAD = 1e-3  # of the median variance, below which a channel says nothing
DIGITS = (0.1307,)
USUAL = (  # mean and std of inputs in which others train: pixels, ImageNet's, those of digits, -1..1, 0..255
    ((0.0,), (1.0,)),
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    (DIGITS, (0.3081,)),
    ((0.5,), (0.5,)),
    ((0.0,), (0.00392157,)),
)


@dataclass(frozen=True)
class Scaling:
    """What the statistics of the first norm say of a network's training images, if these had the card's mean and std.

    Args:
        variance: of the first norm's input for drawn pictures, as a multiple of its running variance, median over channels.
        pixel: mean pixel of each channel in [0, 1]; None if the first layer does not tell it.
        fits: whether both are possible.
        fitting: mean and std of those in `USUAL` that fit, if the card's do not.
    """

    variance: float
    pixel: tuple[float, ...] | None
    fits: bool
    fitting: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()


def read_scaling(network: nn.Module, inputs: InputSpec, pictures: Tensor) -> Scaling | str:
    """What the first norm says of `inputs`, or why it says nothing, as the end of a sentence.

    The first convolution is linear, so its mean output is that of the mean image: least squares over its channels give each
    input channel's mean, exact but for what padding adds. The variance is compared with that of drawn `pictures` [B, C, H, W],
    in [0, 1] pixels, whose contrast and spectrum are those of photographs.
    """
    found = _first_layers(network, inputs.to_network(pictures[:1]))
    if isinstance(found, str):
        return found
    convolution, norm = found
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        variance = moments(convolution(inputs.to_network(pictures)))[1]
    live = norm.running_var > _DEAD * norm.running_var.median()
    ratio = (variance[live] / norm.running_var[live]).median().item()
    level = _input_means(convolution, norm, live)
    if _possible(ratio, pixel := _pixel(level, inputs)):
        return Scaling(ratio, pixel, True)
    fitting = []
    for mean, std in USUAL:
        if len(mean) in (1, inputs.shape[0]) and (mean != DIGITS or inputs.shape[0] == 1):
            other = InputSpec(shape=inputs.shape, mean=mean, std=std)
            if _possible(ratio * (_mean(inputs.std) / _mean(std)) ** 2, _pixel(level, other)):
                fitting.append((mean, std))
    return Scaling(ratio, pixel, False, tuple(fitting))


def _first_layers(network: nn.Module, x: Tensor) -> tuple[nn.Conv2d, Norm] | str:
    """The first convolution and the norm that reads it, or why there are none that can be used."""
    names = norm_names(network)
    if not names:
        return "since it has no batch norm"
    with evaluating(network), layer_inputs(network, *names) as read:
        first = calls(network, x)[0]
    name, seen = next(iter(read.items()))
    norm = network.get_submodule(name)
    assert isinstance(norm, Norm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if not isinstance(first.layer, nn.Conv2d) or not torch.equal(first.input, x) or not _same(first.output, seen):
        return "since its first batch norm does not follow a convolution of the inputs"
    if bool((norm.running_mean == 0).all()) or not bool(norm.running_var.isfinite().all() & (norm.running_var > 0).any()):
        return "since its first batch norm has statistics of no data"
    batches = 0 if norm.num_batches_tracked is None else int(norm.num_batches_tracked)
    if 0 < batches < FEWEST:
        return f"since its batch norms have seen too few batches, {batches}"
    return first.layer, norm


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _input_means(convolution: nn.Conv2d, norm: Norm, live: Tensor) -> Tensor | None:
    """Mean of each input channel, network units, by least squares and its standard error: [2, C]; None if it is not known."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    channels = convolution.in_channels
    if convolution.groups > 1 or int(live.sum()) <= channels:
        return None
    deviation = norm.running_var[live].double().sqrt()
    bias = 0 if convolution.bias is None else convolution.bias.detach()[live]
    sums = convolution.weight.detach()[live].double().sum((2, 3)) / deviation[:, None]
    target = (norm.running_mean[live] - bias).double() / deviation
    inverse = torch.linalg.pinv(sums)
    means = inverse @ target
    left = (sums @ means - target).square().sum() / (len(target) - channels)
    return torch.stack([means, (left * inverse.square().sum(1)).sqrt()])


def _pixel(level: Tensor | None, inputs: InputSpec) -> tuple[float, ...] | None:
    """The mean pixel of each channel, if inputs had this mean and std; None if it is not known to `SURE`."""
    if level is None:
        return None
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (inputs.mean, inputs.std))
    means, errors = level.cpu()
    if bool((errors * std > SURE).any()):
        return None
    return tuple((means * std + mean).tolist())


def _possible(variance: float, pixel: tuple[float, ...] | None) -> bool:
    return 1 / FACTOR < variance < FACTOR and all(PIXELS[0] < value < PIXELS[1] for value in pixel or ())


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)
