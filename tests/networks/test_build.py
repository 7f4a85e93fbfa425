"""Building foreign networks: on the meta device where they can be, within the limits of their file where not, and offline."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import pytest
import torch
from helpers import INPUTS
from safetensors.torch import save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from datafree import InputSpec, pack
from datafree.networks.building.build import build, is_real, outline

calls: list[str] = []


def complains(pool: str) -> nn.Module:
    calls.append(pool)
    raise AssertionError(f"Invalid pool type: {pool}")


def reads_values(width: int) -> nn.Module:
    """As networks do that scale a layer by the values of its weights."""
    torch.linspace(0, 1, 3)[0].item()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, width), nn.Linear(width, 10))


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package of another, in which a test may put factories."""
    module: Any = ModuleType("shop_to_build")
    module.complains, module.reads_values = complains, reads_values
    monkeypatch.setitem(sys.modules, "shop_to_build", module)
    return module  # type: ignore[no-any-return]


@pytest.mark.parametrize("word", ["meta", "meta tensor", "the meta device"])
def test_an_option_that_says_meta_does_not_build_the_real_network(word: str, shop: ModuleType) -> None:
    calls.clear()
    with pytest.raises(ValueError, match=f"Invalid pool type: {word}"):
        outline("shop_to_build:complains", INPUTS, 10, {"pool": word}, ["shop_to_build"])
    assert calls == [word]


def test_a_network_that_reads_its_weights_is_real_and_not_larger_than_its_file(tmp_path: Path, shop: ModuleType) -> None:
    assert is_real(outline("shop_to_build:reads_values", INPUTS, 10, {"width": 4}, ["shop_to_build"]))
    save_file({"1.weight": torch.zeros(4, 64)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"has more than 67,109,376 weights"):
        pack(tmp_path / "weights.safetensors", "shop_to_build:reads_values", INPUTS, 10, {"width": 20_000}, ["shop_to_build"])


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that a factory would read; nothing is read."""
    pytest.importorskip("torchvision", reason="its factories download by default")
    asked: list[str] = []

    def fails(url: str, *args: object, **more: object) -> None:
        asked.append(url)
        raise URLError("no network here")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fails)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return asked


@pytest.mark.parametrize(
    ("factory", "options"),
    [("torchvision.models.segmentation:fcn_resnet50", {}), ("torchvision.models:get_model", {"name": "fcn_resnet50"})],
)
def test_a_factory_that_downloads_by_default_does_not(factory: str, options: dict[str, Any], downloads: list[str]) -> None:
    outline(factory, INPUTS, 10, {**options, "num_classes": 10}, ["torchvision"])
    assert downloads == []


def test_a_name_that_get_model_does_not_know_is_refused() -> None:
    pytest.importorskip("torchvision", reason="its factories are meant")
    with pytest.raises(ValueError, match="Unknown model nosuch"):
        build("torchvision.models:get_model", INPUTS, 10, {"name": "nosuch"}, ["torchvision"])


def test_a_failing_download_is_named_with_what_to_do(shop: Any, downloads: list[str]) -> None:
    def fetches() -> nn.Module:
        torch.hub.load_state_dict_from_url("https://example.org/weights-12345678.pth")
        return nn.Linear(1, 1)

    shop.fetches = fetches
    with pytest.raises(ValueError, match=r"reads or downloads another file, which failed \(.*no network here.*--options"):
        build("shop_to_build:fetches", INPUTS, 10, None, ["shop_to_build"])
    assert downloads == ["https://example.org/weights-12345678.pth"]


class Operators(TorchDispatchMode):
    """Names of the operators that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.__name__.partition(".")[0])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("architecture", ["resnet8", "vit-mini-half"])
def test_building_without_memory_draws_nothing(architecture: str) -> None:
    inputs = InputSpec(shape=(3, 32, 32))
    drawn: dict[str, set[str]] = {}
    for how in (outline, build):
        with Operators() as seen:
            how(architecture, inputs, 10)
        drawn[how.__name__] = seen.names & {"normal_", "uniform_"}
    assert not drawn["outline"]
    assert drawn["build"]
