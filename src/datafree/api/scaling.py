"""The line of `inspect` on mean and std: whether they fit what the first batch norm saw in training."""

from torch import nn

from datafree.core.runtime import Runtime
from datafree.core.spec import InputSpec
from datafree.methods.common.procedural.pictures import FAMILIES, draw
from datafree.networks.inside.scaling import Scaling, read_scaling

PICTURES, VALUES = 64, 2**21  # drawn, and numbers in all of them: large ones are fewer
SYMMETRIC = 0.5  # share of them, as of the images of `procedural`


def describe_scaling(network: nn.Module, inputs: InputSpec) -> str:
    """Whether the mean and std of `inputs` fit the statistics of the first batch norm, for a person, with what to do."""
    count = max(2, min(PICTURES, VALUES // inputs.values))
    pictures = draw(count, tuple(FAMILIES), inputs.shape, Runtime("cpu"), SYMMETRIC)
    found = read_scaling(network, inputs, pictures)
    return f"cannot be judged, {found}" if isinstance(found, str) else _line(found)


def _line(found: Scaling) -> str:
    pixel = " ".join(f"{value:.2f}" for value in found.pixel or ())
    seen = f"a mean pixel of {pixel}, and " if pixel else ""
    if found.fits:
        return (
            f"fits the first norm: by its statistics the training images had {seen}{1 / found.variance:.2g} times the variance "
            "of drawn pictures"
        )
    flags = " or ".join(f"--mean {_numbers(mean)} --std {_numbers(std)}" for mean, std in found.fitting)
    return (
        f"does not fit the first norm: by its statistics the training images had {seen}{1 / found.variance:.2g} times the "
        f"variance of drawn pictures; check --mean and --std{f' ({flags} would fit)' if flags else ''}"
    )


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
