"""Divergence and collapse are reported while a run goes on, once, and looking changes no number."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import INPUTS, TINY, network
from torch import Tensor, nn

from datafree import DFAD, Plan, Recipe, Stored, distill
from datafree.core.runtime import Runtime
from datafree.data.pool import Batch, Pool
from datafree.engine import alarm
from datafree.engine.alarm import Alarm, SetAlarm
from datafree.engine.method import NoStudent, Problem
from datafree.networks.saved.weights import fingerprint
from datafree.networks.teacher import Teacher


def linear(favourite: int | None = None) -> nn.Module:
    """A network that answers to noise with many classes, or always with its favourite one."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        module[1].weight.copy_(torch.randn(10, 64, generator=generator))
        module[1].bias.zero_()
        if favourite is not None:
            module[1].weight.zero_()
            module[1].bias[favourite] = 1
    return module


@pytest.fixture(autouse=True)
def at_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarm, "SHARE_OF_TIME", float("inf"))


def watching(student: nn.Module, same_images: bool = False) -> tuple[Alarm, list[str]]:
    runtime = Runtime("cpu")
    problem = Problem(Teacher(linear(), INPUTS, runtime), student, INPUTS, 10)
    x = torch.randn(40, *INPUTS.shape, generator=torch.Generator().manual_seed(1))
    pool, said = Pool(INPUTS, 40), list[str]()
    pool.add(Batch(x[:1].expand_as(x) if same_images else x))
    return Alarm(problem, student, pool, float("inf"), said.append), said


def test_a_student_that_answers_with_one_class_is_reported_once_it_stays_so() -> None:
    each, said = watching(linear(favourite=3))
    for round_ in range(1, 9):
        each.check(round_, {"student_loss": 1.0}, trained=round_ > 2)
        assert len(said) == (round_ >= 5)
    assert said[0].startswith("Round 5: the student answers 100 % of the images with class 3, and the teacher ")


def test_images_of_one_class_are_reported_and_the_student_is_not_blamed() -> None:
    each, said = watching(linear(), same_images=True)
    for round_ in range(1, 9):
        each.check(round_, {}, trained=True)
    assert len(said) == 1
    assert said[0].startswith("Round 3: the teacher sees class ")


def test_a_loss_far_above_its_best_is_reported_once() -> None:
    each, said = watching(linear())
    for round_, loss in enumerate([2.0, 9.9, 0.5, 2.4, 2.6, 4.0], 1):
        each.check(round_, {"student_loss": loss}, trained=False)
    assert len(said) == 1
    assert said[0].startswith("Round 5: the student's loss is 2.6, 5 times its best")
    resumed = Alarm(each.problem, each.kept, each.pool, 0.5, said.append)
    resumed.check(7, {"student_loss": 3.0}, trained=False)
    assert said[1].startswith("Round 7: ")


def test_a_sane_run_is_not_disturbed() -> None:
    each, said = watching(linear())
    for round_ in range(1, 9):
        each.check(round_, {"student_loss": 1 / round_}, trained=True)
    assert not said


class Drawing(nn.Module):
    """Draws random numbers even in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x)


def test_looking_changes_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    found = []
    for watched in (True, False):
        torch.manual_seed(0)
        student = nn.Sequential(
            Drawing(), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(144, 10)
        )
        check = Alarm.check if watched else lambda *_: None
        with monkeypatch.context() as patch:
            patch.setattr(Alarm, "check", lambda self, *given, check=check: looks.append(1) or check(self, *given))
            method = DFAD(latent={"size": 8, "width": 8}, batch=8)
            plan = Plan(rounds=4, steps=2, batch=8, log_every=1, eval_every=0, grid_every=0, ema_decay=0.9)
            out = tmp_path / str(watched)
            distill(network(1), student, inputs=INPUTS, recipe=Recipe(method, plan, "test"), out=out, quiet=True, device="cpu")
        state = torch.load(out / "checkpoint.pt")
        found.append((fingerprint(student), state["parts"]["runtime"]["counters"], state["parts"]["runtime"]["torch"].tolist()))
    assert found[0] == found[1]
    assert len(looks) == 8


def test_a_run_says_so_on_the_screen_at_the_round_where_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "black.npz", images=np.zeros((40, 8, 8), dtype=np.uint8), labels=np.arange(40) % 10)
    plan = Plan(rounds=6, steps=1, batch=8, log_every=1, eval_every=0, grid_every=0)
    recipe = Recipe(Stored(path=tmp_path / "black.npz"), plan, "test")
    distill(network(1), TINY, recipe=recipe, out=tmp_path / "run", device="cpu")
    assert capsys.readouterr().err.count("Round 3: the teacher sees class ") == 1


def filling(same_images: bool, size: int, favourite: int | None = None, task: str = "classification") -> list[str]:
    """What is said while a set of `size` images is filled by fives."""
    problem = Problem(Teacher(linear(favourite), INPUTS, Runtime("cpu")), NoStudent(), INPUTS, 10, task)
    pixels = torch.randint(0, 256, (5, *INPUTS.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    said = list[str]()
    each, batches = SetAlarm(problem, size, said.append), -(-size // 5)
    for batch in range(1, batches + 1):
        each.check(batch, pixels[:1].expand_as(pixels) if same_images else pixels.roll(batch, -1), last=batch == batches)
    return said


def test_a_set_that_collapses_is_reported_once_while_it_is_filled() -> None:
    said = filling(same_images=True, size=100)
    assert said == ["Batch 13: the last 64 images have collapsed, since they are all alike; use another --recipe or --seed."]
    (line,) = filling(same_images=False, size=12, favourite=3)
    assert line.startswith("Batch 3: the last 15 images have collapsed, since the teacher sees class 3 in 100 % of them")
    assert not filling(same_images=True, size=5), "of so few images nobody can tell"
    assert not filling(same_images=False, size=12, favourite=3, task="segmentation")
    assert not filling(same_images=False, size=100)
