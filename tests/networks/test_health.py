"""An examination finds what is wrong with a network, and leaves it as it was."""

import pytest
import torch
from helpers import INPUTS, network
from torch import Tensor, nn

from datafree import Network
from datafree.networks.inside.cost import saved_bytes
from datafree.networks.inside.health import examine


def test_a_trained_network_is_well_and_left_as_it_was(taught: Network) -> None:
    module = taught.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    grads, random = [weight.grad is None for weight in module.parameters()], torch.get_rng_state()
    health = examine(module, taught.card.inputs)
    assert (health.outputs, health.norms, health.norms_sane) == ("logits", 2, True)
    assert (health.gradient, health.ends_linear, health.attention, health.dropout, health.half) == (
        True,
        True,
        False,
        False,
        False,
    )
    assert health.layers == 4
    assert health.logit_scale > 0.1
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    assert all(weight.requires_grad for weight in module.parameters())
    assert grads == [weight.grad is None for weight in module.parameters()]
    assert not any(layer._forward_hooks for layer in module.modules())
    assert torch.equal(random, torch.get_rng_state())


def test_statistics_as_first_set_and_broken_ones_are_not_sane() -> None:
    assert not examine(network(1).module, INPUTS).norms_sane
    broken = network(1).module
    broken.bn1.running_mean += 1
    assert examine(broken, INPUTS).norms_sane
    broken.bn2.running_var[0] = torch.nan
    assert not examine(broken, INPUTS).norms_sane


class Ends(nn.Module):
    """A network whose answer passes one function more."""

    def __init__(self, end: str):
        super().__init__()
        self.body, self.end = network(1).module, end

    def forward(self, x: Tensor) -> Tensor:
        logits = self.body(x)
        return {
            "probabilities": logits.softmax(1),
            "log-probabilities": logits.log_softmax(1),
            "constant": 0 * logits + 3,
            "logits": logits,
            "detached": logits.detach(),
        }[self.end]


@pytest.mark.parametrize("end", ["probabilities", "log-probabilities", "constant", "logits"])
def test_what_the_outputs_are_is_seen(end: str) -> None:
    assert examine(Ends(end), INPUTS).outputs == end


def test_a_network_that_gives_no_gradient_is_seen() -> None:
    assert examine(Ends("logits"), INPUTS).gradient
    assert not examine(Ends("detached"), INPUTS).gradient


def test_memory_an_image_is_what_autograd_keeps() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Sigmoid())
    x = torch.zeros(2, 1, 8, 8)
    for weight in layers.parameters():
        weight.requires_grad_(False)
    assert saved_bytes(layers, x) == 4 * (8 * 8 + 4 * 8 * 8), "a convolution keeps its input, a sigmoid its output"
