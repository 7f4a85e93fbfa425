"""`datafree distill TEACHER --student NAME --out RUN`, and nothing else."""

import copy
import json
import math
import signal
from pathlib import Path

import pytest
import torch
from helpers import TINY, network
from torch import nn

from datafree import InputSpec, Network, distill, inspect
from datafree.cli import main
from datafree.core.runtime import Precision, Runtime
from datafree.engine import loop
from datafree.engine.method import Problem
from datafree.networks.inside import cost
from datafree.networks.inside.cost import seconds_by_precision
from datafree.networks.teacher import Teacher
from datafree.recipes import auto
from datafree.recipes.auto import Choice, choose


def choice(teacher: Network, student: nn.Module | None = None, seconds: float | None = None) -> Choice:
    inputs = teacher.card.inputs
    frozen = Teacher(teacher.module, inputs, Runtime("cpu"))
    pupil = student or network(2, TINY, inputs, teacher.card.classes).module
    return choose(Problem(frozen, pupil, inputs, teacher.card.classes, teacher.card.task), seconds)


def test_a_teacher_with_statistics_is_inverted_and_another_gets_images_that_cost_nothing(
    taught: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = choice(taught, seconds=3600)
    assert good.recipe.method.name == "fast"
    assert "2 batch norms" in good.reasons[0]
    with monkeypatch.context() as patched:
        patched.setattr(auto, "FEW", 10**12)  # too little time, however fast this machine is
        assert choice(taught, seconds=1).recipe.method.name == "procedural", "there is no time for more"
    fresh = network(1)  # its statistics are as first set
    assert choice(fresh).recipe.method.name == "procedural"
    lenet = network(1, "lenet5", InputSpec(shape=(1, 32, 32)))
    assert choice(lenet, network(2, "lenet5-half", InputSpec(shape=(1, 32, 32))).module).recipe.method.name == "procedural"


def test_a_teacher_that_says_nothing_is_refused(taught: Network) -> None:
    dead = network(1)
    torch.nn.init.zeros_(dead.module.fc2.weight)
    with pytest.raises(ValueError, match="gives every image the same outputs"):
        choice(dead)


def test_sizes_follow_memory_and_time(taught: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = choice(taught, seconds=3600).recipe.plan
    assert (whole.micro_batch, whole.batch) == (0, 64)
    hasty = choice(taught, seconds=0.5).recipe.plan
    assert hasty.steps * hasty.batch < whole.steps * whole.batch
    monkeypatch.setattr(auto, "available_bytes", lambda device: 10 * 2**20 // 64)
    small = choice(taught, seconds=3600).recipe.plan
    assert 0 < small.micro_batch < small.batch
    assert small.images_per_round <= max(8, small.micro_batch) < whole.images_per_round


def test_no_flag_gives_a_student_and_the_same_line_resumes(
    tmp_path: Path, taught: Network, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "FEW", 10**12)  # too little time, however fast this machine is
    taught.save(tmp_path / "teacher.safetensors")
    teacher, out = str(tmp_path / "teacher.safetensors"), str(tmp_path / "run")
    line = ["distill", teacher, "--student", TINY, "--device", "cpu", "--out", out]
    assert main([*line, "--budget", "4s"]) == 0
    printed = capsys.readouterr().err
    assert printed.count("auto: ") == 3
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["identity"]["method"]["name"] == "procedural"
    assert len(record["auto"]) == 3
    assert (tmp_path / "run" / "student.safetensors").exists()
    assert "Why <code>auto</code> picked it" in (tmp_path / "run" / "report.html").read_text()
    assert main([*line, "--budget", "4s"]) == 0
    assert "already finished" in capsys.readouterr().out
    again = [*line[:-1], str(tmp_path / "again"), "--config", str(tmp_path / "run" / "run.json")]
    assert main(again) == 0, "what was picked can be replayed"
    replayed = json.loads((tmp_path / "again" / "run.json").read_text())
    assert replayed["identity"] == record["identity"]  # the students may differ: the first run ends when its time is over


def test_a_run_that_goes_on_keeps_the_source_that_auto_gave_it(
    tmp_path: Path, taught: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source() -> str:
        return str(json.loads((tmp_path / "run.json").read_text())["source"])

    def begin() -> None:
        distill(taught, TINY, out=tmp_path, device="cpu", budget="1s", quiet=True)

    monkeypatch.setattr(auto, "FEW", 10**12)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "run", lambda job: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            begin()
    first = source()
    assert first.startswith("picked by auto; ")
    begin()
    assert source() == first


def test_flags_of_a_method_need_its_recipe(tmp_path: Path, teacher_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["distill", str(teacher_file), "--student", TINY, "--out", str(tmp_path / "run"), "--plan.rounds", "3"]
    assert main(line) == 1
    assert "belong to a recipe" in capsys.readouterr().err


def test_inspect_says_what_auto_would_do(tmp_path: Path, taught: Network) -> None:
    dead = network(1)
    torch.nn.init.zeros_(dead.module.fc2.weight)
    lines = []
    for name, each in (("good", taught), ("fresh", network(1)), ("dead", dead)):
        each.save(tmp_path / f"{name}.safetensors")
        lines.append(inspect(tmp_path / f"{name}.safetensors")["auto"])
    assert lines[0].startswith("would take fast, 5 minutes by default (fast: 2 batch norms")
    assert lines[1].startswith("would take procedural")
    assert "would refuse it" in lines[2]


def test_what_auto_picks_watches_for_a_collapse(taught: Network) -> None:
    assert choice(taught, seconds=3600).recipe.plan.guard.every


@pytest.mark.parametrize(
    ("architecture", "optimizer", "rate", "clipped", "mixup"),
    [
        ("resnet8-half", "sgd", 0.1, False, 1.0),
        ("resnet8-gn-half", "sgd", 0.1, False, 1.0),
        ("vit-mini-half", "adam", 3e-3, False, 0.0),
        ("vgg8-plain-half", "sgd", 0.05, True, 1.0),
    ],
)
def test_the_optimizer_and_the_look_follow_the_student(
    architecture: str, optimizer: str, rate: float, clipped: bool, mixup: float
) -> None:
    inputs = InputSpec(shape=(1, 32, 32))
    recipe = choice(network(1, "lenet5", inputs), network(2, architecture, inputs).module, seconds=60).recipe
    assert (recipe.plan.optimizer, recipe.plan.lr, recipe.plan.clip > 0) == (optimizer, rate, clipped)
    assert recipe.method.look.mixup == mixup


def test_the_faster_precision_is_taken_on_a_cpu_and_kept_on_resume(
    tmp_path: Path, taught: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def precision(faster: float, precision: Precision = "auto", out: str = "") -> str:
        monkeypatch.setattr(cost, "seconds_by_precision", lambda *_: {"fp32": faster, "bf16": 1.0})
        folder = tmp_path / (out or f"{faster}{precision}")
        distill(taught, TINY, out=folder, device="cpu", precision=precision, budget="2s", quiet=True)
        return str(json.loads((folder / "run.json").read_text())["identity"]["precision"])

    assert [precision(faster) for faster in (0.5, 1.1, 2.0)] == ["fp32", "fp32", "bf16"]
    assert precision(2.0, "fp32") == "fp32"
    assert precision(0.5, out="2.0auto") == "bf16", "another measurement does not change a run that has begun"


def test_measuring_precisions_changes_nothing_and_one_that_fails_is_never_taken(taught: Network) -> None:
    student = network(2).module.train()
    x = torch.randn(4, *taught.card.inputs.shape)
    before, random = copy.deepcopy(student.state_dict()), torch.get_rng_state()
    assert all(0 < each < 60 for each in seconds_by_precision(taught.module, student, x).values())
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert all(weight.grad is None for weight in student.parameters())
    assert torch.equal(random, torch.get_rng_state())

    class Single(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("not implemented for 'BFloat16'")
            return x.flatten(1)[:, :10]

    found = seconds_by_precision(Single(), student, x)
    assert found["fp32"] < found["bf16"] == math.inf


def test_the_average_is_as_short_as_the_run() -> None:
    inputs = InputSpec(shape=(1, 32, 32))
    teacher, student = network(1, "lenet5", inputs), network(2, "lenet5-half", inputs).module
    decays = [choice(teacher, student, seconds).recipe.plan.ema_decay for seconds in (0.01, 3, 3600)]
    assert decays[0] < decays[1] < decays[2] == 0.999
