"""`datafree teach` is taken up again; what it learns is tested with the data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from datafree import Network, build
from datafree.cli.app import main
from datafree.core.runtime import Runtime
from datafree.data.labelled import Labelled, load_labelled
from datafree.engine import folder, supervised
from datafree.engine.supervised import Training, measured_inputs, train


def test_teaching_goes_on_where_it_was_stopped(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = [
        "teach",
        str(images),
        "--arch",
        "small-cnn-quarter",
        "--epochs",
        "6",
        "--batch",
        "8",
        "--crop",
        "1",
        "--device",
        "cpu",
    ]
    assert main([*flags, "--out", str(tmp_path / "whole.safetensors")]) == 0
    monkeypatch.setattr(folder, "SAVE_EVERY", 0.0)
    drain, epochs = Runtime.drain, []

    def drained(runtime: Runtime) -> dict[str, float]:
        epochs.append(1)
        if len(epochs) == 4:
            raise OSError("the lights went out")  # after three epochs, the last of them saved
        return drain(runtime)

    broken = tmp_path / "broken.safetensors"
    monkeypatch.setattr(Runtime, "drain", drained)
    assert main([*flags, "--out", str(broken)]) == 1
    assert not broken.exists()
    assert main([*flags, "--out", str(broken)]) == 0
    assert len(epochs) == 4 + 3
    assert broken.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not (tmp_path / "broken.safetensors.parts").exists()


def test_a_lesson_that_was_begun_with_other_settings_is_refused(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(folder, "SAVE_EVERY", 0.0)
    flags = ["teach", str(images), "--arch", "small-cnn-quarter", "--epochs", "2", "--device", "cpu"]
    flags += ["--out", str(tmp_path / "teacher.safetensors")]
    with monkeypatch.context() as patch:
        patch.setattr(Network, "save", lambda *_: (_ for _ in ()).throw(OSError("the disk is gone")))
        assert main(flags) == 1
    assert main([*flags, "--lr", "0.01"]) == 1
    assert "training.lr is 0.05 there and 0.01 here" in capsys.readouterr().err
    assert main(flags) == 0


def test_a_lesson_that_diverges_says_so_and_ends_where_a_number_is_not_finite(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"teach {images} --arch small-cnn-quarter --lr 30 --device cpu --out {tmp_path / 't'}"
    assert main(line.split()) == 1
    *progress, last = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("Epoch ") and "diverge" in line for line in progress) == 1
    assert "by epoch" in last
    assert "lower --lr" in last
    assert not (tmp_path / "t").exists()


def test_a_network_that_is_not_finite_is_not_kept_though_its_loss_is(images: Path) -> None:
    """The last step may break the weights, and a running variance may overflow where that of the batch does not count."""
    data = load_labelled(str(images))
    network = build("small-cnn-quarter", measured_inputs(data), 10)
    next(layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)).running_var.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match="largest value of the network became inf by epoch 1"):
        train(network, data, measured_inputs(data), Training(epochs=1, lr=1e-3), Runtime("cpu"))


@pytest.mark.parametrize(
    ("n", "classes", "batch", "sentence"),
    [
        (1, 2, 8, "has one image only, on which batch norm cannot train; give two at least"),
        (6, 2, 1, "--batch 1 takes one image a step, on which batch norm"),
        (6, 1, 8, "has one class only, so there is nothing to tell apart; give data of two classes at least"),
    ],
)
def test_data_that_teach_nothing_are_refused_and_leave_nothing(
    n: int, classes: int, batch: int, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = (np.arange(n) + 1) % classes
    np.savez(tmp_path / "data.npz", images=np.full((n, 8, 8), 9, dtype=np.uint8), labels=labels, classes=classes)
    line = f"teach {tmp_path / 'data.npz'} --arch small-cnn-quarter --batch {batch} --device cpu --out {tmp_path / 't'}"
    assert main(line.split()) == 1
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


def test_measuring_large_images_takes_little_memory_and_changes_no_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randint(0, 256, (7, 3, 20, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = Labelled(pixels, torch.arange(7), 7, "x")
    at_once, converted, double = measured_inputs(data), [], torch.Tensor.double
    monkeypatch.setattr(torch.Tensor, "double", lambda x: converted.append(x.numel()) or double(x))
    for most in (100, 1000, 3000):
        monkeypatch.setattr(supervised, "CONVERTED", most)
        assert measured_inputs(data) == at_once
        assert max(converted) <= most
        converted.clear()
