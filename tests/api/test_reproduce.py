"""`datafree reproduce`: from a folder of data to a number beside a paper's."""

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datafree.api import reproduce as api
from datafree.cli import reproduce as command
from datafree.cli.app import main
from datafree.recipes import RECIPES
from datafree.recipes.experiments import EXPERIMENTS, Experiment, Published
from datafree.reports.verdict import verdict

SMALL = Experiment(
    recipe="dfad-mnist-light",
    task="noise",
    data="tiny",
    teacher="small-cnn-quarter",
    student="small-cnn-quarter",
    teach="--epochs 1 --inputs 1x8x8",
    paper=Published(5.0, "best epoch", "nobody"),
    distil="--plan.rounds 2 --plan.steps 1 --plan.batch 8 --method.batch 8",
    baseline="--plan.rounds 1 --plan.steps 1 --plan.batch 8",
    real="--method.look.augment.crop 1",
    noise_images=16,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        images = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8)
        np.savez(tmp_path / f"tiny_{split}.npz", images=images, labels=np.arange(40) % 10)
    return tmp_path


def in_this_process(line: str) -> None:
    """Stands for the process that a part of the experiment is."""
    assert main(shlex.split(line)) == 0


def test_an_experiment_from_its_teacher_to_its_verdict(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(api, "_run_command", in_this_process)
    monkeypatch.setitem(command.EXPERIMENTS, "tiny", SMALL)
    runs = data / "runs"
    line = ["reproduce", "tiny", "--data", str(data), "--seeds", "2", "--runs", str(runs), "--device", "cpu"]
    assert main(line) == 0
    told = capsys.readouterr()
    assert ("PASS" in told.out) != ("SHORT" in told.out)
    result = json.loads((runs / "tiny" / "result.json").read_text())
    assert [run["seed"] for run in result["runs"]] == [0, 1]
    for seed in (0, 1):  # what is told is what the run folders hold
        found = json.loads((runs / "tiny" / f"seed-{seed}" / "run.json").read_text())
        assert result["runs"][seed]["last"] == round(found["results"]["student_accuracy"], 2)
        assert found["identity"]["method"]["batch"] == 8
    real = json.loads((runs / "tiny" / "kd-real" / "run.json").read_text())["identity"]
    noise = json.loads((runs / "tiny" / "kd-noise" / "run.json").read_text())["identity"]
    assert (real["method"]["look"]["augment"]["crop"], noise["method"]["look"]["augment"]["crop"]) == (1, 0)
    assert result["command"] == "datafree reproduce tiny --data FOLDER --seeds 2"

    assert main(line) == 0  # again: everything is there
    assert json.loads((runs / "tiny" / "result.json").read_text()) == result


def result_of(*last: float, paper: float | None) -> dict[str, object]:
    runs = [{"last": value, "best_epoch": value + 1} for value in last]
    published = {"value": paper, "kind": "best epoch", "source": "a paper"}
    return {"runs": runs, "paper": published, "teacher": 99.0, "baselines": {"kd_real": 98.0, "kd_noise": 10.0}}


def test_the_verdict_is_of_the_mean_of_the_last_students() -> None:
    assert verdict(result_of(98.0, 97.0, paper=97.5)).endswith("+0.00  PASS")
    short = verdict(result_of(98.0, 96.8, paper=97.5))
    assert short.endswith("-0.10  SHORT")  # though the best epoch, and one seed, are above
    assert "oracle, best epoch: 98.40" in short
    assert "no number was published" in verdict(result_of(1.0, paper=None))


def test_every_experiment_names_a_recipe_of_ours() -> None:
    assert all(each.recipe in RECIPES for each in EXPERIMENTS.values())
    same = [name for name, each in EXPERIMENTS.items() if name in RECIPES and each.recipe != name]
    assert not same, "an experiment called as a recipe runs another"


def test_mistakes_are_answered_in_words(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "dfad-mnst", "--data", str(data)]) == 1
    assert "name one of dfad-mnist-light" in capsys.readouterr().err
    assert main(["reproduce", "dfad-mnist", "--data", str(data)]) == 1
    assert "mnist_train.npz does not exist" in capsys.readouterr().err


def test_each_part_is_a_process_of_its_own_and_one_that_fails_has_said_why(
    data: Path, teacher_file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lines = subprocess.run, []

    def noting(line: list[str], **how: Any) -> Any:
        lines.append(line)  # the first is enough to see: each loads torch
        return real(line, **how) if len(lines) == 1 else subprocess.CompletedProcess(line, 1)

    monkeypatch.setattr(subprocess, "run", noting)
    monkeypatch.setitem(command.EXPERIMENTS, "tiny", replace(SMALL, student="no-such-net"))
    line = ["reproduce", "tiny", "--data", str(data), "--runs", str(data / "runs"), "--seeds", "1"]
    assert main([*line, "--teacher", str(teacher_file)]) == 1
    assert lines[0][:4] == [sys.executable, "-m", "datafree.cli", "distill"]
    said = capfd.readouterr().err.splitlines()
    assert said[-1].startswith("datafree: A part of the experiment failed, with the reason printed above: datafree distill.")
    assert any(each.startswith("datafree: ") and "no-such-net" in each for each in said)
