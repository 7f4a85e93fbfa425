"""Networks by torchvision's names, in one file, and in a package of the working directory."""

import sys
from pathlib import Path

import pytest
import torch
from helpers import INPUTS
from safetensors.torch import save_file
from torch import Tensor, nn

from datafree import InputSpec, build, load, pack
from datafree.networks.building.named import torchvision_description
from datafree.networks.outputs import logits_of, taken_of

SOURCE = """from torch import nn

def Small(width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 10))
"""


def test_torchvision_by_name_has_the_mean_and_std_of_its_own_weights(tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models", reason="it builds the network")
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "weights.pt")
    packed = pack(tmp_path / "weights.pt", "torchvision:squeezenet1_1")
    assert packed.card.inputs == InputSpec(shape=(3, 224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert packed.card.classes == 1000


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("fasterrcnn_resnet50_fpn", "detects objects"),
        ("raft_small", "finds motion"),
        ("resnet19", "has no network 'resnet19'"),
    ],
)
def test_networks_of_other_tasks_are_refused(name: str, sentence: str) -> None:
    pytest.importorskip("torchvision.models", reason="it lists the networks")
    with pytest.raises(ValueError, match=sentence):
        build(f"torchvision:{name}", INPUTS, 10)
    with pytest.raises(ValueError, match=sentence):
        torchvision_description(name)


def test_a_network_in_one_file_needs_the_file_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(SOURCE)
    with pytest.raises(ValueError, match=r"runs the code of file 'net.py'; if you trust it, pass --allow-code net.py"):
        build("net.py:Small", INPUTS, 10)
    module = build("net.py:Small", INPUTS, 10, {"width": 6}, ["net.py"])
    save_file(module.state_dict(), "weights.safetensors")
    pack("weights.safetensors", "net.py:Small", INPUTS, 10, {"width": 6}, ["net.py"]).save("teacher.safetensors")
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(load("teacher.safetensors", ["net.py"]).module(x), module(x))
    with pytest.raises(ValueError, match=r"the file other.py does not exist"):
        build("other.py:Small", INPUTS, 10, allow_code=["other.py"])


def test_a_package_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = list(sys.path)
    Path("shop_in_folder").mkdir()
    Path("shop_in_folder/nets.py").write_text(SOURCE)
    assert isinstance(build("shop_in_folder.nets:Small", INPUTS, 10, allow_code=["shop_in_folder"]), nn.Module)
    assert sys.path == before


def test_the_first_output_that_can_be_logits_is_taken_and_named() -> None:
    logits, pixels = torch.randn(2, 5), torch.randn(2, 5, 4, 4)

    class Answer:
        def __init__(self, logits: Tensor):
            self.logits = logits

    for output, expected, text in (
        (logits, logits, ""),
        ((torch.randn(2, 3, 7), logits, pixels), logits, "item 1 of a tuple of 3"),
        ([pixels, logits], pixels, "item 0 of a list of 2"),
        ({"aux": pixels, "out": logits}, logits, "entry 'out' of a dict"),
        ({"loss": torch.tensor(1.0), "scores": logits}, logits, "entry 'scores' of a dict"),
        (Answer(logits), logits, "attribute 'logits' of a Answer"),
    ):
        assert logits_of(output) is expected
        assert taken_of(output) == text
    assert logits_of((1, "text")) == (1, "text")
