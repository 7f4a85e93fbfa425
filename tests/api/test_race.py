"""A race of students: a tenth of the budget each, the best by agreement on held-back images, and the same again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import datafree.api.race as module
from datafree import Network, race
from datafree.cli.app import main
from datafree.engine.recipe import Recipe
from datafree.recipes import find_recipe


def recipe() -> Recipe:
    light = find_recipe("procedural-light").dry_run()
    return Recipe(light.method, light.plan.replaced(rounds=100), light.source)


def raced(teacher: Network, out: Path, **how: Any) -> nn.Module:
    return race(teacher, "4x", 2, out=out, budget="400images", recipe=recipe(), device="cpu", quiet=True, **how)


def test_the_best_of_a_race_gets_the_rest_of_the_budget(teacher: Network, tmp_path: Path) -> None:
    tmp_path /= "new"
    raced(teacher, tmp_path / "run")
    found = json.loads((tmp_path / "run.race.json").read_text())
    assert found["taken"] == max(found["agreement"], key=found["agreement"].get)
    assert found["names"][0] == "small-cnn,width=3"
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("run.race-1", "run.race-2", "run")]
    assert [each["budget"] for each in records] == ["40images", "40images", "320images"]
    assert [each["identity"]["plan"]["rounds"] for each in records[:2]] == [5, 5]
    taken = records[found["names"].index(found["taken"])]
    assert records[2]["identity"]["student"] == taken["identity"]["student"]
    assert records[2]["status"] == "finished"


def test_a_race_goes_on_with_its_own_students(teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = raced(teacher, tmp_path / "run")
    found = (tmp_path / "run.race.json").read_text()
    monkeypatch.setattr(module, "listed", lambda *_: pytest.fail("the race looked for other students"))
    again = raced(teacher, tmp_path / "run")
    assert (tmp_path / "run.race.json").read_text() == found
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())


def test_the_one_that_agrees_most_wins(teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter((10.0, 20.0))
    monkeypatch.setattr(module, "_agreement", lambda *_: next(scores))
    raced(teacher, tmp_path / "run")
    found = json.loads((tmp_path / "run.race.json").read_text())
    assert found["taken"] == found["names"][1]


def test_a_network_agrees_with_itself_on_images_held_back(teacher: Network) -> None:
    held = module.synthesize(teacher, "procedural-light", 16, device="cpu", quiet=True)
    assert module._agreement(teacher, teacher.module, held, "cpu") == 100


@pytest.mark.parametrize("runners", [0, 1, 6])
def test_a_race_of_too_few_or_many_is_refused(runners: int, teacher: Network, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="A race has 2 to 5 students"):
        race(teacher, "4x", runners, out=tmp_path / "run", budget="1s")


def test_a_race_of_a_name_is_refused(teacher: Network, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The size 'resnet8' is none"):
        race(teacher, "resnet8", 2, out=tmp_path / "run", budget="1s")


def test_a_race_needs_a_budget(teacher_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", str(teacher_file), "--student", "4x", "--race", "2", "--out", str(tmp_path / "run")]) == 1
    assert "pass --budget 20m" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[1]", '{"student": "4x"}', '{"student": "4x", "runners": 2, "names": 3}'])
def test_another_file_of_that_name_begins_no_race(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.race.json").write_text(text)
    assert module._begun(tmp_path / "x.race.json", "4x", 2) == []
