"""Taps read what they say, inside their block only, and change nothing."""

import pytest
import torch
from helpers import INPUTS, network
from torch import Tensor, nn

from datafree import InputSpec, build
from datafree.methods.common.losses import statistics_distance
from datafree.networks.inside.statistics import channel_means, moments
from datafree.networks.inside.taps import first_non_finite, layer_inputs, layer_outputs, norm_statistics, stage_maps


def hooks(module: torch.nn.Module) -> int:
    return sum(len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in module.modules())


def test_layer_inputs_are_the_layers_inputs_and_carry_gradients() -> None:
    module, x = network(1).module, torch.randn(4, *INPUTS.shape, requires_grad=True)
    with layer_inputs(module, "fc2") as seen:
        out = module(x)
        assert hooks(module) == 1
    assert hooks(module) == 0
    assert torch.allclose(module.fc2(seen["fc2"]), out)
    seen["fc2"].sum().backward()
    assert x.grad is not None


def test_an_unknown_layer_is_refused_and_leaves_no_hook() -> None:
    module = network(1).module
    with pytest.raises(ValueError, match="no layer 'nothing'"), layer_inputs(module, "fc2", "nothing"):
        pass
    assert hooks(module) == 0


def test_norm_statistics_are_those_of_a_naive_loop() -> None:
    module, x = network(1).module, torch.randn(6, *INPUTS.shape)
    with layer_inputs(module, "bn1") as inputs, norm_statistics(module) as seen:
        module(x)
    assert list(seen) == ["bn1", "bn2"]
    values = [inputs["bn1"][:, c].flatten() for c in range(inputs["bn1"].shape[1])]
    assert torch.allclose(seen["bn1"].mean, torch.stack([v.sum() / v.numel() for v in values]), atol=1e-6)
    naive = [((v - v.mean()) ** 2).sum() / v.numel() for v in values]
    assert torch.allclose(seen["bn1"].variance, torch.stack(naive), atol=1e-6)
    assert torch.equal(seen["bn1"].running_mean, module.bn1.running_mean)
    assert hooks(module) == 0


def test_taps_leave_with_an_error() -> None:
    module = network(1).module
    with pytest.raises(RuntimeError), norm_statistics(module), layer_inputs(module, "fc1"):
        module(torch.randn(1, 3, 8, 8))
    assert hooks(module) == 0


def test_first_non_finite_names_the_layer_that_breaks() -> None:
    module, x = network(1).module, torch.randn(2, *INPUTS.shape)
    assert first_non_finite(module, x) is None
    with torch.no_grad():
        module.conv2.weight[0] = torch.nan
    assert first_non_finite(module, x) == "conv2"
    assert hooks(module) == 0


@pytest.mark.parametrize("shape", [(7, 5), (4, 3, 6), (4, 3, 6, 5)])
def test_moments_and_their_gradient_are_those_of_var_mean(shape: tuple[int, ...]) -> None:
    x = (torch.randn(shape) * 3 + 2).requires_grad_()
    axes, weights = [0, *range(2, len(shape))], torch.randn(2, shape[1])
    variance, mean = torch.var_mean(x, dim=axes, correction=0)
    found = moments(x)
    assert torch.allclose(found[0], mean, atol=1e-5)
    assert torch.allclose(found[1], variance, atol=1e-4)
    (expected,) = torch.autograd.grad((weights[0] * mean + weights[1] * variance).sum(), x)
    (gradient,) = torch.autograd.grad((weights[0] * found[0] + weights[1] * found[1]).sum(), x)
    assert torch.allclose(gradient, expected, atol=1e-5)


def test_a_constant_channel_has_no_variance() -> None:
    assert moments(torch.full((4, 2, 3, 3), 5.0))[1].tolist() == pytest.approx([0, 0], abs=1e-9)


def test_statistics_distance_is_the_sum_of_norms_in_a_naive_loop() -> None:
    module, x = network(1).module, torch.randn(6, *INPUTS.shape)
    with norm_statistics(module) as seen:
        module(x)
    total = 0.0
    for each in seen.values():
        total += sum((a - b) ** 2 for a, b in zip(each.mean.tolist(), each.running_mean.tolist(), strict=True)) ** 0.5
        total += sum((a - b) ** 2 for a, b in zip(each.variance.tolist(), each.running_variance.tolist(), strict=True)) ** 0.5
    assert statistics_distance(seen.values()).item() == pytest.approx(total, rel=1e-5)


def test_channel_means_and_their_gradient_are_those_of_a_naive_mean() -> None:
    for shape in ((3, 4, 5, 6), (3, 4, 7), (3, 4)):
        x, y = torch.randn(*shape, requires_grad=True), torch.randn(3, 4)
        naive = x.detach().clone().requires_grad_()
        (channel_means(x) * y).sum().backward()
        (naive.reshape(3, 4, -1).mean(2) * y).sum().backward()
        assert torch.allclose(channel_means(x), naive.reshape(3, 4, -1).mean(2))
        assert torch.allclose(x.grad, naive.grad)


@pytest.mark.parametrize(
    ("architecture", "stages"),
    [
        ("wrn-16-1", {32: "stages.0", 16: "stages.1", 8: "stages.2"}),
        ("resnet18", {32: "layer1", 16: "layer2", 8: "layer3", 4: "layer4"}),
        ("lenet5", {28: "conv1", 10: "conv2"}),  # its pooling is no layer
        ("vgg8", {32: "features.2", 16: "features.6", 8: "features.10", 4: "features.14", 2: "features"}),
    ],
)
def test_the_last_maps_of_each_size_are_those_of_the_stages(architecture: str, stages: dict[int, str]) -> None:
    inputs = InputSpec(shape=(3, 32, 32))
    module = build(architecture, inputs, 10).eval()
    found = stage_maps(module, torch.zeros(2, *inputs.shape))
    assert found == {(side, side): name for side, name in stages.items()}
    assert hooks(module) == 0


class Shared(nn.Module):
    """One pooling at three sizes; the last map has one position."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.pool = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.pool(self.pool(self.two(self.pool(self.one(x)))))).flatten(1)


def test_a_layer_that_is_called_at_several_sizes_gives_its_last_and_one_position_is_no_map() -> None:
    module, x = Shared(), torch.randn(2, 1, 16, 16)
    assert stage_maps(module, x) == {(16, 16): "one", (8, 8): "two"}
    with layer_outputs(module, "pool") as seen:
        module(x)
    assert seen["pool"].shape[2:] == (1, 1)
