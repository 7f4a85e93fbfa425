"""A folded network is the same network, or it is not folded."""

import pytest
import torch
from torch import Tensor, nn

from datafree import InputSpec, build
from datafree.networks.inside.folding import fold_batch_norms


def used(network: nn.Module) -> nn.Module:
    """In eval mode, with norms that have seen data, some of them with negative weights."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.running_mean.normal_(generator=generator)
                layer.running_var.uniform_(0.5, 2, generator=generator)
                layer.weight.normal_(generator=generator)
                layer.bias.normal_(generator=generator)
    return network.eval().requires_grad_(False)


def norms(network: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


@pytest.mark.parametrize(("name", "left"), [("resnet20", 0), ("wrn-16-1", 7), ("resnet18", 0), ("small-cnn", 0), ("lenet5", 0)])
def test_networks_fold_to_the_same_function(name: str, left: int) -> None:
    inputs = InputSpec(shape=(1, 32, 32) if name == "lenet5" else (3, 32, 32))
    torch.manual_seed(0)  # a ReLU whose input rounds to another side of 0 has another gradient; with these weights none does
    network = used(build(name, inputs, 10))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    x = torch.randn(4, *inputs.shape, requires_grad=True)
    faster = fold_batch_norms(network, x)
    assert norms(faster) == left
    outputs = network(x), faster(x)
    assert torch.allclose(*outputs, rtol=1e-4, atol=1e-4 * outputs[0].abs().max().item())
    slopes = [torch.autograd.grad(out.square().sum(), x)[0] for out in outputs]
    assert torch.allclose(*slopes, rtol=1e-3, atol=1e-3 * slopes[0].abs().max().item())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert {key for key, _ in faster.named_modules()} == {key for key, _ in network.named_modules()}


class Net(nn.Module):
    """conv, norm, and a forward pass that a test chooses."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.how == "branch" and x.sum() > 0:
            return self.norm(-y)  # type: ignore[no-any-return]
        if self.how == "second reader":
            return self.norm(y) + y  # type: ignore[no-any-return]
        if self.how == "called twice":
            return self.norm(self.conv(self.norm(y)))  # type: ignore[no-any-return]
        if self.how == "reads the norm":
            return self.norm(y) * self.norm.weight.sum()  # type: ignore[no-any-return]
        return self.norm(y)  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", ["branch", "second reader", "called twice", "reads the norm", "hooked"])
def test_what_cannot_be_folded_is_left(how: str) -> None:
    network = used(Net(how))
    if how == "hooked":
        network.norm.register_forward_hook(lambda *_: None)  # type: ignore[operator, union-attr]
    assert fold_batch_norms(network, torch.randn(2, 3, 4, 4)) is network


def test_the_plain_net_of_these_tests_folds() -> None:
    network = used(Net("plainly"))
    assert norms(fold_batch_norms(network, torch.randn(2, 3, 4, 4))) == 0


def test_a_network_is_folded_whatever_precision_the_run_computes_in() -> None:
    network = used(build("resnet20", InputSpec(shape=(3, 32, 32)), 10))
    with torch.autocast("cpu", torch.bfloat16):
        faster = fold_batch_norms(network, torch.randn(4, 3, 32, 32))
    assert norms(faster) == 0
