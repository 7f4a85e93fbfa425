"""States of optimizers from a file."""

import torch
from torch import nn

from datafree.core.state import load_checked


def test_momentum_that_a_state_lacks_is_taken_for_zero() -> None:
    """The fused step of SGD takes a momentum for every weight or for none."""
    torch.manual_seed(0)
    network, x = nn.Linear(3, 2), torch.ones(1, 3)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        network(x).square().sum().backward()
        optimizer.step()

    step()
    whole = optimizer.state_dict()
    load_checked(optimizer, whole | {"state": {0: whole["state"][0]}})
    assert not optimizer.state[network.bias]["momentum_buffer"].any()
    assert optimizer.state[network.weight]["momentum_buffer"].any()
    step()
    load_checked(optimizer, whole)
    assert optimizer.state[network.bias]["momentum_buffer"].any()
