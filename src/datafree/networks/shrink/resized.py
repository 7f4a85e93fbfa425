"""A network that takes larger inputs than its own, which it resizes inside: it is fed as its teacher was."""

import torch.nn.functional as F
from torch import Tensor, nn

from datafree.core.spec import InputSpec, Shape
from datafree.networks.outputs import logits_of


class Resized(nn.Module):
    """`network` behind an antialiased bilinear interpolation to `size` pixels.

    Takes x [B, C, H, W] in network units, and returns what the network returns; logits of pixels have the size of x again.
    """

    def __init__(self, network: nn.Module, size: tuple[int, int]):
        super().__init__()
        self.network, self.size = network, size

    def forward(self, x: Tensor) -> Tensor:
        small = F.interpolate(x.float(), size=self.size, mode="bilinear", antialias=True, align_corners=False)
        logits = logits_of(self.network(small))
        assert isinstance(logits, Tensor)
        if logits.dim() == 4:
            return F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=False)
        return logits


def inside(network: nn.Module) -> nn.Module:
    """The network behind the interpolation, or `network` itself if there is none."""
    return network.network if isinstance(network, Resized) else network


def resized_inputs(inputs: InputSpec, resized_to: Shape | None) -> InputSpec:
    """What the network inside takes. Raises `ValueError` for other channels than those of `inputs`, and for larger sides."""
    if resized_to is None:
        return inputs
    if resized_to[0] != inputs.shape[0] or min(resized_to) < 1 or any(map(int.__gt__, resized_to[1:], inputs.shape[1:])):
        raise ValueError(
            f"A student that resizes its inputs takes the channels of {inputs} and no larger sides, not "
            f"{'x'.join(map(str, resized_to))}; pass other --student-inputs."
        )
    return inputs.model_copy(update={"shape": resized_to})


def behind_resizing(network: nn.Module, resized_to: Shape | None) -> nn.Module:
    """`network` itself, or behind an interpolation to the shape `resized_to`."""
    return network if resized_to is None else Resized(network, resized_to[1:])
