"""Network files: what goes in comes out, and nothing in a file runs code."""

import json
import os
from pathlib import Path

import pytest
import torch
from helpers import INPUTS, TINY, network
from safetensors.torch import load_file, save_file

from datafree import InputSpec, Network, build, load, pack


def relabelled(path: Path, out: Path, **changes: object) -> Path:
    """A copy of a network file with another card."""
    card = network(1).card.model_dump(mode="json") | changes
    save_file(load_file(path), out, metadata={"datafree.card": json.dumps(card)})
    return out


def test_a_saved_network_is_the_same_network(teacher: Network, teacher_file: Path) -> None:
    found = load(teacher_file)
    x = torch.randn(3, *INPUTS.shape)
    assert torch.equal(found.module(x), teacher.module(x))
    assert found.card == teacher.card
    assert not found.module.training


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dicts_of_every_wrapping_are_packed(wrap: object, prefix: str, tmp_path: Path, teacher: Network) -> None:
    state = {prefix + name: value for name, value in teacher.module.state_dict().items()}
    torch.save(wrap(state), tmp_path / "w.pth")  # type: ignore[operator]
    packed = pack(tmp_path / "w.pth", TINY, INPUTS, 10)
    assert all(torch.equal(value, packed.module.state_dict()[name]) for name, value in teacher.module.state_dict().items())
    assert packed.card.history[0]["event"] == "packed"


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch PWNED",)


def test_a_file_that_needs_unpickling_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in (("evil.pt", {"state_dict": Evil()}), ("module.pt", network(1).module)):
        torch.save(content, tmp_path / name)
        with pytest.raises(ValueError, match=r"torch\.save\(model\.state_dict\(\)"):
            pack(tmp_path / name, TINY, INPUTS, 10)
    assert not (tmp_path / "PWNED").exists()


def test_keys_that_do_not_fit_are_named(tmp_path: Path, teacher: Network) -> None:
    state = teacher.module.state_dict()
    state["extra.weight"] = state.pop("bn1.weight")
    state["fc2.weight"] = torch.zeros(7, 32)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"1 missing: bn1\.weight; 1 unexpected: extra\.weight; 1 misshapen: fc2\.weight"):
        pack(tmp_path / "w.pt", TINY, INPUTS, 10)


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 cut"])
def test_what_is_no_weights_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.pt"):
        pack(tmp_path / "w.pt", TINY, INPUTS, 10)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds no state dict"):
        pack(tmp_path / "list.pt", TINY, INPUTS, 10)


def test_a_factory_in_a_card_is_not_called_unless_its_package_is_named(
    teacher_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    card = relabelled(teacher_file, tmp_path / "f.safetensors", architecture="os:mkdir", options={"path": "touched"})
    with pytest.raises(ValueError, match="--allow-code os"):
        load(card)
    assert not (tmp_path / "touched").exists()
    with pytest.raises(ValueError, match="--allow-code os"):
        load(card, allow_code=["posix", "subprocess"])
    with pytest.raises(ValueError, match="not a torch module"):
        load(card, allow_code=["os"])  # the caller named it himself: now it is called
    assert (tmp_path / "touched").exists()


def test_a_named_factory_builds(tmp_path: Path) -> None:
    torch.save(torch.nn.Conv2d(1, 2, 3).state_dict(), tmp_path / "w.pt")
    inputs, options = InputSpec(shape=(1, 4, 4)), {"in_channels": 1, "out_channels": 2, "kernel_size": 3}
    packed = pack(tmp_path / "w.pt", "torch.nn:Conv2d", inputs, 2, options, allow_code=["torch"])
    assert isinstance(packed.module, torch.nn.Conv2d)
    assert packed.card.task == "segmentation", "it answers every pixel"
    with pytest.raises(ValueError, match="refuses inputs of 1x2x2"):
        pack(tmp_path / "w.pt", "torch.nn:Conv2d", InputSpec(shape=(1, 2, 2)), 2, options, allow_code=["torch"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": 10**9}, "classes"),
        ({"inputs": {"shape": [1, 8, 2**40]}}, "shape"),
        ({"options": {"width": {"deep": 1}}}, "options"),
        ({"surprise": 1}, "surprise"),
        ({"architecture": "x" * 70_000}, "more than"),
        ({"architecture": "no-such-net"}, "No network is named 'no-such-net'; name one of"),
        ({"architecture": "resnet-20"}, "did you mean resnet20"),
        ({"options": {"widht": 3}}, "does not take these options"),
        ({"classes": 12}, "misshapen"),
    ],
)
def test_a_foreign_card_is_validated(changes: dict[str, object], words: str, teacher_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        load(relabelled(teacher_file, tmp_path / "f.safetensors", **changes))


def test_a_huge_card_does_not_allocate_a_huge_network(teacher_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"an input of 1x16384x16384 has 268,435,456 values, beyond"):
        load(relabelled(teacher_file, tmp_path / "f.safetensors", inputs={"shape": [1, 16384, 16384]}))
    with pytest.raises(ValueError, match=r"needs a tensor of 27,466 MiB, and the limit is 256"):
        load(relabelled(teacher_file, tmp_path / "f.safetensors", options={"width": 20_000}))
    with pytest.raises(ValueError, match="misshapen"):
        load(relabelled(teacher_file, tmp_path / "f.safetensors", options={"width": 500}))


def test_a_huge_header_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "f.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load(tmp_path / "f.safetensors")


def test_weights_without_a_card_are_told_to_be_packed(tmp_path: Path, teacher: Network) -> None:
    save_file(teacher.module.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="datafree pack"):
        load(tmp_path / "w.safetensors")
    assert pack(tmp_path / "w.safetensors", TINY, INPUTS, 10).card.classes == 10


def test_timm_networks_know_their_inputs(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.save(timm.create_model("resnet10t", num_classes=1000).state_dict(), tmp_path / "w.pt")
    packed = pack(tmp_path / "w.pt", "timm:resnet10t")
    assert packed.card.classes == 1000
    assert packed.card.inputs.shape == timm.get_pretrained_cfg("resnet10t").input_size
    assert packed.card.inputs.mean == tuple(timm.get_pretrained_cfg("resnet10t").mean)


@pytest.mark.parametrize("name", ["timm:hf-hub:someone/model", "timm:local-dir:/tmp", "timm:no_such_net"])
def test_timm_names_that_fetch_are_refused(name: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="timm has no network"):
        build(name, INPUTS, 10)


@pytest.mark.parametrize("value", ["x", True, 64, 1e-30, float("nan")])
@pytest.mark.parametrize("option", ["pretrained", "checkpoint_path", "pretrained_cfg", "cache_dir"])
def test_timm_options_that_read_other_files_are_refused(option: str, value: str | float) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="read another file"):
        build("timm:resnet10t", INPUTS, 10, {option: value})
