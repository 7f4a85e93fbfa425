"""Exported files compute what the network does, at any batch, with preprocessing inside, in float and int8."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import INPUTS, TINY, network

import datafree
from datafree import Card, InputSpec, Network
from datafree.cli import main
from datafree.data.sets import noise_set
from datafree.deploy import check, formats
from datafree.deploy.calibration import judge, procedural_images
from datafree.deploy.formats import runner

RUNTIMES = {"onnx": "onnxscript", "pt2": "torch", "executorch": "executorch"}


def needs(to: str, int8: bool = False) -> None:
    pytest.importorskip(RUNTIMES[to], reason=f"{RUNTIMES[to]} is not installed")
    if to == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    if int8 and to != "onnx":
        pytest.importorskip("torchao", reason="torchao is not installed")


def sure(architecture: str = TINY) -> Network:
    """A network whose batch norms have seen something, and whose logits are far apart."""
    made = network(1, architecture)
    with torch.no_grad():
        made.module.train()
        for seed in range(20):
            made.module(torch.randn(32, *INPUTS.shape, generator=torch.Generator().manual_seed(seed)))
        made.module.eval()
        last = [layer for layer in made.module.modules() if isinstance(layer, torch.nn.Linear)][-1]
        last.weight *= 10
    return made


@pytest.mark.parametrize("to", ["onnx", "pt2", "executorch"])
def test_a_float_file_is_the_network_at_every_batch(to: str, tmp_path: Path) -> None:
    needs(to)
    net, file = sure(), tmp_path / "net.bin"
    made = datafree.export(net, to, file)
    assert made.difference.agreement == 100
    record = json.loads((tmp_path / "net.bin.json").read_text())
    assert record["batch"] == (1 if to == "executorch" else "any")
    run: Callable[[torch.Tensor], torch.Tensor] = runner(file, to)
    for batch in (1,) if to == "executorch" else (1, 3, 17):
        x = torch.randn(batch, *INPUTS.shape)
        torch.testing.assert_close(run(x), net.module(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("to", ["onnx", "pt2", "executorch"])
def test_preprocessing_is_inside_on_request(to: str, tmp_path: Path) -> None:
    needs(to)
    net = sure()
    datafree.export(net, to, tmp_path / "net.bin", preprocess=True)
    pixels = torch.randint(0, 256, (1, *INPUTS.shape), dtype=torch.uint8)
    torch.testing.assert_close(
        runner(tmp_path / "net.bin", to)(pixels), net.module(INPUTS.to_network(pixels)), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("to", ["onnx", "pt2", "executorch"])
def test_int8_says_nearly_the_same_from_fewer_images_than_a_batch(to: str, tmp_path: Path) -> None:
    needs(to, int8=True)
    net = sure()
    noise_set(INPUTS, 5, 0).save(tmp_path / "few.safetensors")
    made = datafree.export(net, to, tmp_path / "net.bin", int8=True, batch=8, calibration=tmp_path / "few.safetensors")
    assert made.verdict is not None
    assert made.verdict.images == 5
    assert made.difference.agreement > 60
    assert made.difference.largest > 0, "it is not the float network"
    record = json.loads((tmp_path / "net.bin.json").read_text())
    assert record["verdict"]["word"] in ("good", "doubtful", "bad")
    assert record["calibration"].endswith("few.safetensors")


def test_int8_files_are_smaller(tmp_path: Path) -> None:
    needs("onnx")
    net = network(1, "small-cnn")
    sizes = [datafree.export(net, "onnx", tmp_path / f"{int8}.onnx", int8=int8).bytes for int8 in (False, True)]
    assert sizes[1] < sizes[0] / 2


def test_a_segmenter_is_exported_too(tmp_path: Path) -> None:
    needs("onnx")
    spec = InputSpec(shape=(3, 32, 32))
    net = network(1, "compact-segmenter-half", spec, classes=4)
    card = net.card.model_copy(update={"task": "segmentation"})
    made = datafree.export(Network(net.module, card), "onnx", tmp_path / "seg.onnx")
    assert made.difference.agreement > 99.9


def test_a_file_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = formats.runner

    def wrong(path: Path, to: str) -> Callable[[torch.Tensor], torch.Tensor]:
        run = other(path, to)
        return lambda x: run(x) + 0.5

    monkeypatch.setattr(check, "runner", wrong)
    with pytest.raises(ValueError, match="computes something else"):
        datafree.export(sure(), "pt2", tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())


class Branching(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1)) if x.sum() > 0 else -self.layer(x.flatten(1))


def test_what_cannot_be_exported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(architecture="x:y", classes=10, inputs=INPUTS)
    with pytest.raises(ValueError, match=r"torch.export cannot follow this network's code"):
        datafree.export(Network(Branching(), card), "pt2", tmp_path / "net.pt2")
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"pip install 'datafree\[onnx\]'"):
        datafree.export(sure(), "onnx", tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_the_verdict_tells_images_from_noise() -> None:
    net = sure()
    good = judge(net.module, INPUTS, torch.randn(256, *INPUTS.shape))  # what its norms have seen
    flat = judge(net.module, INPUTS, torch.zeros(256, *INPUTS.shape))
    far = judge(net.module, INPUTS, 20 + torch.randn(256, *INPUTS.shape))
    assert good.distance is not None
    assert flat.distance is not None
    assert far.distance is not None
    assert good.distance < 0.1 < min(flat.distance, far.distance)
    assert good.covered is not None
    assert good.covered > 0.5
    assert flat.covered == 0.0
    assert flat.evenness == pytest.approx(0, abs=1e-6)
    assert (flat.word, far.word) == ("bad", "bad")
    assert procedural_images(net, 40).shape == (40, *INPUTS.shape)


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sure().save(tmp_path / "net.safetensors")
    np.savez(tmp_path / "c.npz", images=np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8))
    line = f"export {tmp_path}/net.safetensors --to pt2 --out {tmp_path}/net.pt2"
    assert main(line.split()) == 0
    assert "same class for 100.0 %" in capsys.readouterr().out
    needs("onnx")
    line = f"export {tmp_path}/net.safetensors --to onnx --int8 --calibration {tmp_path}/c.npz --out {tmp_path}/net.onnx"
    assert main(line.split()) == 0
    assert "(20 images)" in capsys.readouterr().out
