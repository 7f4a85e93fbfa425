"""`datafree teach` is taken up again; what it learns is tested with the data."""

from pathlib import Path

import pytest

from datafree import Network
from datafree.cli.app import main
from datafree.core.runtime import Runtime
from datafree.engine import folder


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
