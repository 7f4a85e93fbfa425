"""Taps read what they say, inside their block only, and change nothing."""

import pytest
import torch
from conftest import INPUTS, network

from datafree.taps import first_non_finite, layer_inputs, norm_statistics


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
