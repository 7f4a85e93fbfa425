"""TorchScript: not run unless its file is named, and then the same network, with its layers where it is a graph."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import network
from test_programs import SMALL, images, with_statistics
from torch import Tensor, nn

from datafree import InputSpec, Network, distill, load, pack
from datafree.networks.inside.taps import norm_names


def saved(module: nn.Module, path: Path, how: str) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: Any = torch.jit.trace(module, images(1)) if how == "trace" else torch.jit.script(module)
        made.save(str(path))
    return path


@pytest.fixture
def resnet() -> Network:
    found = network(3, "resnet8", SMALL)
    return Network(with_statistics(found.module), found.card)


@pytest.mark.parametrize("how", ["trace", "script"])
def test_torchscript_becomes_a_program(how: str, resnet: Network, tmp_path: Path) -> None:
    file = saved(resnet.module, tmp_path / "t.pt", how)
    packed = pack(file, inputs=SMALL, allow_code=[str(file)])
    packed.save(tmp_path / "packed.safetensors")
    found = load(tmp_path / "packed.safetensors").module
    assert torch.equal(found(images()), resnet.module(images()))
    assert {*norm_names(found)} == {*norm_names(resnet.module)}
    students = [
        distill(teacher, "small-cnn-quarter", recipe=small_recipe(), inputs=SMALL, device="cpu", quiet=True)
        for teacher in (packed, resnet)
    ]
    one, other = (student.state_dict() for student in students)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def small_recipe() -> Any:
    from datafree.recipes import find_recipe

    return find_recipe("deepinversion-cifar10").dry_run()


def test_torchscript_runs_only_if_its_file_is_named(resnet: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved(resnet.module, tmp_path / "t.pt", "trace")
    loaded: list[str] = []
    monkeypatch.setattr(torch.jit, "load", lambda file, **how: loaded.append(file))
    for named in ([], ["t.pt"], [str(tmp_path)]):
        with pytest.raises(ValueError, match=rf"is code, which would run; if you trust it, pass --allow-code {file}"):
            load(file, named, SMALL)
    assert not loaded


def test_torchscript_needs_the_shape_of_its_inputs(resnet: Network, tmp_path: Path) -> None:
    file = saved(resnet.module, tmp_path / "t.pt", "trace")
    said = (
        r"does not say the shape of its inputs: it takes 3 channels, and fits inputs of 3x8x8 and 3x16x16, .*--inputs 3xHEIGHT"
    )
    with pytest.raises(ValueError, match=said):
        load(file, [str(file)])


def test_the_only_size_that_torchscript_takes_is_found(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 38 * 38, 5)).eval()
    file = saved(module, tmp_path / "t.pt", "script")
    packed = pack(file, allow_code=[str(file)], mean=(0.5,), std=(0.2,))
    assert packed.card.inputs == InputSpec(shape=(3, 40, 40), mean=(0.5,), std=(0.2,))
    assert "inputs of 3x40x40, the only usual square size that fits" in packed.notes


class Branching(nn.Module):
    """Its operators depend on its input, so it is no graph."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 3)

    def forward(self, x: Tensor) -> Tensor:
        found = self.conv(x)
        if found.mean() > 0:
            found = torch.relu(found) + 0.1
        return found.mean((2, 3))


def test_what_is_no_graph_runs_as_it_is(tmp_path: Path) -> None:
    module = Branching().eval()
    file = saved(module, tmp_path / "t.pt", "script")
    found = load(file, [str(file)], SMALL)
    assert found.card.architecture == "torchscript"
    assert torch.equal(found.module(images()), module(images()))
    with pytest.raises(ValueError, match="give its own file as the teacher"):
        found.save(tmp_path / "packed.safetensors")
    student = distill(found, "small-cnn-quarter", recipe=procedural(), device="cpu", quiet=True)
    assert student(images()).shape == (3, 10)


def procedural() -> Any:
    from datafree.recipes import find_recipe

    return find_recipe("procedural-light").dry_run()
