"""STTSS against its formulas."""

import pytest
import torch
from helpers import INPUTS, network
from torch import Tensor, nn

from datafree import STTSS, InputSpec
from datafree.core.runtime import Runtime
from datafree.engine.method import Problem
from datafree.methods.sttss import STTSSSynthesizer, head_and_feature, row_correlation
from datafree.networks.inside.taps import calls
from datafree.networks.teacher import Teacher

COLOUR = InputSpec(shape=(3, 32, 32))


def inverter(settings: STTSS, teacher: nn.Module, inputs: InputSpec = INPUTS, seed: int = 0) -> STTSSSynthesizer:
    runtime = Runtime("cpu", seed=seed)
    problem = Problem(Teacher(teacher, inputs, runtime), network(2).module, inputs, 10)
    made = settings.start(problem, runtime)
    assert isinstance(made, STTSSSynthesizer)
    return made


def covariance(x: Tensor) -> Tensor:
    return (x.T @ x) / len(x)


def test_correlation_is_the_cosine_of_incoming_weights_in_a_naive_loop() -> None:
    weight = torch.randn(6, 9)  # PyTorch: six units, nine inputs
    found = row_correlation(weight)
    assert found.shape == (6, 6)
    for i in range(6):
        for j in range(6):
            dot = sum(weight[i, k] * weight[j, k] for k in range(9))
            assert found[i, j].item() == pytest.approx((dot / (weight[i].norm() * weight[j].norm())).item(), abs=1e-5)


@pytest.mark.parametrize(("sigma_is", "scale"), [("variance", 3.0), ("deviation", 9.0)])
def test_features_are_drawn_with_the_covariance_of_the_weights(sigma_is: str, scale: float) -> None:
    teacher = network(1).module
    model = inverter(STTSS(sigma=3, sigma_scales=sigma_is, look={"temperature": 1}), teacher).features
    z = torch.randn(200_000, 32, generator=torch.Generator().manual_seed(0)) @ model._root.T
    expected = scale * row_correlation(teacher.fc1.weight.detach()) + 1e-4 * torch.eye(32)
    assert torch.allclose(covariance(z), expected, atol=0.02 * scale)


def test_literal_targets_are_the_heads_answers_to_the_drawn_features() -> None:
    teacher = network(1).module
    model = inverter(STTSS(look={"temperature": 5}), teacher).features
    state = model.runtime.random.get_state()
    found = model.targets(7)
    model.runtime.random.set_state(state)
    z = model.runtime.noise(7, 32) @ model._root.T
    assert torch.allclose(found, (teacher.fc2(z) / 5).softmax(1), atol=1e-6)


def test_pre_activation_passes_what_follows_the_layer() -> None:
    teacher = network(1).module
    model = inverter(STTSS(look={"temperature": 5}, feature="pre-activation"), teacher).features
    state = model.runtime.random.get_state()
    found = model.targets(7)
    model.runtime.random.set_state(state)
    z = model.runtime.noise(7, 32) @ model._root.T
    assert torch.allclose(found, (teacher.fc2(z.relu()) / 5).softmax(1), atol=1e-6)


@pytest.mark.parametrize("targets", ["normal", "dirichlet"])
def test_targets_are_probabilities(targets: str) -> None:
    found = inverter(STTSS(targets=targets), network(1).module).features.targets(50)
    assert found.shape == (50, 10)
    assert torch.allclose(found.sum(1), torch.ones(50), atol=1e-5)
    assert (found >= 0).all()


def test_balancing_gives_each_class_its_share() -> None:
    loose, even = (
        inverter(STTSS(balanced=b, look={"temperature": 1}), network(1).module).features.targets(100) for b in (False, True)
    )
    counts = [torch.bincount(y.argmax(1), minlength=10) for y in (loose, even)]
    assert counts[0].max() >= 15
    assert counts[1].tolist() == [10] * 10


def test_layers_are_found_by_tracing() -> None:
    def names(architecture: str, inputs: InputSpec) -> tuple[str, str]:
        module = network(1, architecture, inputs).module
        head, feature = head_and_feature(calls(module, torch.randn(2, *inputs.shape)))
        return head.name, feature.name

    assert names("lenet5", InputSpec(shape=(1, 32, 32))) == ("fc3", "fc2")
    assert names("resnet20", COLOUR) == ("linear", "layer3.2.conv2")
    assert names("wrn-16-1", COLOUR) == ("fc", "stages.2.1.conv2")
    assert names("vgg8", COLOUR) == ("classifier", "features.16")


def test_a_teacher_without_a_linear_head_is_refused() -> None:
    teacher = nn.Sequential(nn.Conv2d(1, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=r"ends in a linear layer, and '2' is a Flatten; use dfad"):
        inverter(STTSS(), teacher)
    with pytest.raises(ValueError, match="no layer of the teacher that gives the 64 features"):
        inverter(STTSS(), nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))


def test_inversion_comes_close_to_its_targets_and_leaves_no_hook() -> None:
    teacher = network(1).module
    made = inverter(STTSS(inversion={"steps": 150, "lr": 0.05}, activation=0, look={"temperature": 2}), teacher)
    images, noise = (INPUTS.to_network(torch.rand(20, *INPUTS.shape)) for _ in range(2))
    targets = (teacher(images) / 2).softmax(1).detach()  # targets that some image has

    def distance(x: Tensor) -> float:
        return (targets * (targets.log() - (teacher(x) / 2).log_softmax(1))).sum(1).mean().item()

    found = made._invert(targets)
    assert distance(found) < 0.02 * distance(noise)
    pixels = found * INPUTS.std[0] + INPUTS.mean[0]
    assert pixels.min() >= -1e-5
    assert pixels.max() <= 1 + 1e-5
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in made.problem.teacher.modules())


def test_activation_term_raises_the_features() -> None:
    teacher = network(1).module

    def feature_norm(activation: float) -> float:
        x = inverter(STTSS(inversion={"steps": 60, "lr": 0.05}, activation=activation), teacher).synthesize(20).x
        seen: list[Tensor] = []
        handle = teacher.fc2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        teacher(x)
        handle.remove()
        return seen[0].abs().sum(1).mean().item()

    assert feature_norm(0.5) > 1.5 * feature_norm(0)


def test_an_image_does_not_depend_on_the_rest_of_its_batch() -> None:
    made = inverter(STTSS(inversion={"steps": 20, "lr": 0.05}), network(1).module)
    targets = made.features.targets(4)

    def invert(y: Tensor) -> Tensor:
        made.runtime.random.manual_seed(3)
        return made._invert(y)

    assert torch.allclose(invert(targets)[:2], invert(targets[:2]), atol=1e-4)
