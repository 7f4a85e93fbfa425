"""Networks that nobody here trained: packed, and as good as published."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from datafree import InputSpec, evaluate, pack
from datafree.cli.app import main

IMAGENET = InputSpec(shape=(3, 32, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def cifar10_test(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-10's test images, unpacked."""
    spec = importlib.util.spec_from_file_location("unpack", shared_data / "unpack.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path = tmp_path_factory.mktemp("cifar10") / "test.npz"
    np.savez(path, **module.unpack(shared_data / "cifar10_test.packed.npz"))
    return path


def test_a_third_party_resnet20_scores_what_was_published_and_can_be_distilled(
    shared_data: Path, cifar10_test: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = pack(shared_data / "weights" / "resnet20-12fca82f.th", "resnet20", IMAGENET, 10)
    assert evaluate(packed, str(cifar10_test)).accuracy == pytest.approx(91.73, abs=0.005)
    packed.save(tmp_path / "teacher.safetensors")
    line = [str(tmp_path / "teacher.safetensors"), "--recipe", "dfad-cifar10", "--student", "wrn-16-1", "--dry-run"]
    assert main(["distill", *line]) == 0
    assert "dry run passed" in capsys.readouterr().out
