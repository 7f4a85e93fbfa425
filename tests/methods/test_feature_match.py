"""What networks make of an image on the way to their answer."""

import pytest
import torch
from helpers import network

from datafree import InputSpec, build
from datafree.core.runtime import Runtime
from datafree.engine.method import Problem
from datafree.methods.common.feature_match import Embedding, FeatureMatch
from datafree.networks.inside.taps import last_maps
from datafree.networks.teacher import Teacher

COLOUR = InputSpec(shape=(3, 32, 32))


@pytest.mark.parametrize(
    ("architecture", "name", "channels"),
    [
        ("wrn-16-1", "stages.2", 64),  # block 3, before its norm and ReLU
        ("resnet18", "layer4", 512),
        ("resnet20", "layer3", 64),
        ("vgg8", "features", 512),
        ("alexnet-half", "features", 64),
        ("lenet5", "conv2", 16),  # it has no stages
        ("small-cnn", "bn2", 64),
    ],
)
def test_the_last_maps_are_those_of_the_last_stage(architecture: str, name: str, channels: int) -> None:
    module = build(architecture, COLOUR, 10).eval()
    assert last_maps(module, torch.zeros(2, *COLOUR.shape)) == (name, channels)
    assert not any(layer._forward_hooks for layer in module.modules())


def test_a_network_without_maps_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="no layer that returns feature maps"):
        last_maps(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), torch.zeros(2, 1, 8, 8))


def test_maps_of_another_size_are_pooled_to_the_teachers() -> None:
    student, teacher = network(1, "small-cnn", COLOUR), network(2, "vgg8", COLOUR)
    runtime = Runtime("cpu")
    match = FeatureMatch(Problem(Teacher(teacher.module, COLOUR, runtime), student.module, COLOUR, 10), runtime)
    x = torch.randn(4, *COLOUR.shape)
    answer, own, distance = match(student.module, x)
    assert torch.allclose(answer, teacher.module(x), atol=1e-5)
    assert torch.equal(own, student.module(x))
    assert distance.dim() == 0
    distance.backward()
    assert student.module.conv1.weight.grad.any()
    assert match.align[0].weight.grad.any()
    assert all(weight.grad is None for weight in match.teacher.parameters())


def test_the_embedding_is_what_enters_the_last_layer() -> None:
    module = network(1).module
    runtime = Runtime("cpu")
    problem = Problem(Teacher(module, InputSpec(shape=(1, 8, 8)), runtime), module, InputSpec(shape=(1, 8, 8)), 10)
    features, answer = Embedding(problem, runtime)(torch.randn(5, 1, 8, 8))
    assert torch.allclose(module.fc2(features), answer, atol=1e-5)
