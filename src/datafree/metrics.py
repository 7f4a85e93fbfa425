"""How good a network is: accuracy on labelled data, and agreement with another network."""

import torch
from torch import Tensor, nn

from datafree.runtime import evaluating
from datafree.spec import InputSpec


@torch.no_grad()
def predictions(network: nn.Module, pixels: Tensor, inputs: InputSpec, device: torch.device, batch: int = 1000) -> Tensor:
    """First choice [N] of `network` for uint8 pixels [N, C, H, W], on the CPU; the network's modes are restored."""
    with evaluating(network):
        return torch.cat([network(inputs.to_network(part.to(device))).argmax(1) for part in pixels.split(batch)]).cpu()


def percent(hits: Tensor) -> float:
    """Share of True in a boolean tensor, in percent."""
    return 100 * int(hits.sum()) / len(hits)
