"""A pruned teacher: as small as asked, what is left of the teacher, and a file that gives it back."""

import json
from pathlib import Path

import pytest
import torch
from helpers import INPUTS, network
from safetensors.torch import load_file, save_file
from torch import nn

from datafree import InputSpec, Network, distill, load, students
from datafree.core.files import sha256
from datafree.engine.recipe import Recipe
from datafree.engine.record import STUDENT
from datafree.networks.inside.cost import multiply_adds
from datafree.networks.shrink.pruning import prune
from datafree.networks.shrink.request import parse_request
from datafree.networks.shrink.shrunk import shrink_layers
from datafree.recipes import find_recipe

pytest.importorskip("torch_pruning", reason="pruning is torch-pruning's, of the extra [prune]")
COLOUR = InputSpec(shape=(3, 32, 32))


def pruned(teacher: Network, text: str) -> Network:
    request = parse_request(text)
    assert request
    assert request.pruned
    return prune(teacher, request)


@pytest.mark.parametrize(
    ("architecture", "text"),
    [
        ("resnet20", "3x-pruned"),
        ("resnet20", "3x-compute-pruned"),
        ("wrn-16-1", "2x-pruned"),
        ("vgg8", "4x-pruned"),
        ("vgg8", "3MB-pruned"),
        ("resnet8-gn", "2x-pruned"),
        ("timm:resnet10t", "4x-pruned"),
        ("timm:mobilenetv3_small_050", "2x-compute-pruned"),
    ],
)
def test_a_pruned_teacher_is_as_small_as_asked_and_loads_from_its_file(architecture: str, text: str, tmp_path: Path) -> None:
    if architecture.startswith("timm"):
        pytest.importorskip("timm", reason="timm's networks are its own")
    teacher = network(0, architecture, COLOUR)
    found = pruned(teacher, text)
    cost = (lambda it: multiply_adds(it.module, COLOUR)) if "compute" in text else (lambda it: it.parameters)
    limit = cost(teacher) / float(text.partition("x")[0]) if "x" in text else 750_000
    assert 0.6 * limit < cost(found) <= limit
    found.save(tmp_path / "pruned.safetensors")
    if "MB" in text:
        assert (tmp_path / "pruned.safetensors").stat().st_size == found.file_bytes <= 3_000_000
    again = load(tmp_path / "pruned.safetensors")
    x = torch.randn(2, *COLOUR.shape)
    assert torch.equal(again.module(x), found.module(x))
    assert again.card == found.card
    assert found.card.channels


def test_channels_that_do_nothing_go_first_and_the_answers_stay() -> None:
    teacher = network(0, "small-cnn", INPUTS)
    with torch.no_grad():
        for layer in teacher.module.modules():  # three of every four channels are silent
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                layer.weight[torch.arange(len(layer.weight)) % 4 != 0] = 0
                if layer.bias is not None:
                    layer.bias[torch.arange(len(layer.weight)) % 4 != 0] = 0
        hidden = teacher.module.fc1
        assert isinstance(hidden, nn.Linear)
        silent = torch.arange(len(hidden.weight)) % 4 != 0
        hidden.weight[silent], hidden.bias[silent] = 0, 0
        teacher.module.fc2.weight[:, silent] = 0  # type: ignore[union-attr]
        teacher.module.conv2.weight[:, torch.arange(32) % 4 != 0] = 0  # type: ignore[union-attr]
    found = pruned(teacher, "2x-pruned")
    x = torch.randn(4, *INPUTS.shape)
    assert found.parameters <= teacher.parameters / 2
    assert torch.allclose(found.module(x), teacher.module(x), atol=1e-5)


def test_pruning_leaves_the_teacher_as_it_was_and_is_the_same_each_time() -> None:
    teacher = network(0, "resnet8", COLOUR)
    before = {name: value.clone() for name, value in teacher.module.state_dict().items()}
    first, second = pruned(teacher, "2x-pruned"), pruned(teacher, "2x-pruned")
    assert all(torch.equal(value, before[name]) for name, value in teacher.module.state_dict().items())
    assert all(torch.equal(value, second.module.state_dict()[name]) for name, value in first.module.state_dict().items())
    assert not any(weight.grad is not None for weight in first.module.parameters())


def test_a_pruned_network_can_be_pruned_again(tmp_path: Path) -> None:
    found = pruned(pruned(network(0, "resnet18", COLOUR), "2x-pruned"), "2x-pruned")
    found.save(tmp_path / "twice.safetensors")
    x = torch.randn(2, *COLOUR.shape)
    assert torch.equal(load(tmp_path / "twice.safetensors").module(x), found.module(x))


@pytest.mark.parametrize("architecture", ["vit-mini"])
def test_a_network_that_cannot_be_pruned_is_refused_in_a_sentence(architecture: str) -> None:
    with pytest.raises(ValueError, match=r"vit-mini cannot be pruned.*--student 4x"):
        pruned(network(0, architecture, COLOUR), "4x-pruned")


def test_a_latency_is_no_request_for_pruning() -> None:
    with pytest.raises(ValueError, match="write 4x-pruned"):
        pruned(network(0, "resnet8", COLOUR), "5ms-pruned")


def test_more_than_pruning_can_take_is_refused() -> None:
    with pytest.raises(ValueError, match="Pruned as far as it can be, resnet8 has"):
        pruned(network(0, "resnet8", COLOUR), "9999x-pruned")


def test_a_run_begins_with_the_pruned_teacher_and_resumes(tmp_path: Path) -> None:
    teacher = network(0, "small-cnn", INPUTS)
    light = find_recipe("procedural-light").dry_run()
    recipe = Recipe(light.method, light.plan.replaced(rounds=2), light.source)
    hashes = []
    for _ in range(2):
        distill(teacher, "4x-pruned", recipe=recipe, out=tmp_path, device="cpu", quiet=True)
        hashes.append(sha256(tmp_path / STUDENT))
        (tmp_path / STUDENT).unlink()
    assert hashes[0] == hashes[1]
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["identity"]["student"]["request"] == "4x-pruned"
    assert "the teacher without some channels" in record["student_choice"]


def test_the_list_of_a_size_ends_with_the_pruned_teacher() -> None:
    names = [each.name for each in students(network(0, "small-cnn", INPUTS), "4x")]
    assert names[0].startswith("small-cnn,width=")
    assert names[-1] == "4x-pruned"
    assert "5ms-pruned" not in names


def test_the_list_has_the_pruned_teacher_by_its_request() -> None:
    (found,) = students(network(0, "small-cnn", INPUTS), "4x-pruned")
    assert found.name == "4x-pruned"
    assert found.latency_ms
    assert found.file_bytes > 4 * found.weights


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        ({"nothing": [3]}, "'nothing' cannot have"),
        ({"conv1": [1, 33]}, "cannot have"),
        ({"conv1": [1, 0]}, "greater than or equal to 1"),
        ({"conv1": [1]}, "cannot have"),
        ({"conv1": [1, 2, 3]}, "cannot have"),
        ({"": [1]}, "cannot have"),
        ({f"layer{i}": [1] for i in range(5000)}, "at most 4096"),
        ({"bn1": [8]}, "do not fit"),
    ],
)
def test_a_card_with_channels_that_cannot_be_is_refused(channels: object, words: str, tmp_path: Path) -> None:
    network(0, "small-cnn", INPUTS).save(tmp_path / "plain.safetensors")
    card = network(0, "small-cnn", INPUTS).card.model_dump(mode="json") | {"channels": channels}
    state = load_file(tmp_path / "plain.safetensors")
    save_file(state, tmp_path / "spoilt.safetensors", metadata={"datafree.card": json.dumps(card)})
    with pytest.raises(ValueError, match=rf"{words}|has \d+ bytes"):
        load(tmp_path / "spoilt.safetensors")


def test_grouped_convolutions_keep_their_channels_and_depthwise_ones_lose_them() -> None:
    depthwise = shrink_layers(nn.Sequential(nn.Conv2d(8, 8, 3, groups=8)), {"0": (3, 3)})
    assert depthwise(torch.randn(1, 3, 8, 8)).shape[1] == 3
    with pytest.raises(ValueError, match="grouped convolution"):
        shrink_layers(nn.Sequential(nn.Conv2d(8, 8, 3, groups=2)), {"0": (4, 4)})
