"""Runs side by side, and pages written anew."""

import json
from pathlib import Path

import pytest
from helpers import TINY, network

import datafree
from datafree import DFAD, Plan, Recipe, distill
from datafree.cli import main

PLAN = Plan(rounds=2, steps=1, batch=4, log_every=1, eval_every=1, grid_every=2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    made = [folder / "one" / "run", folder / "two" / "run"]
    for seed, out in enumerate(made):
        recipe = Recipe(DFAD(latent={"size": 4, "width": 8}, batch=4), PLAN, "ours")
        distill(network(1), TINY, recipe=recipe, out=out, quiet=True, device="cpu", seed=seed)
    return made


def test_each_fact_stands_below_its_run(runs: list[Path]) -> None:
    head, *rows = datafree.compare(runs)
    assert head == ["run", "one/run", "two/run"], "the shortest ends that differ"
    found = {row[0]: row[1:] for row in rows}
    assert found["seed"] == ["0", "1"]
    assert found["rounds"] == ["2", "2"]
    assert found["student"] == [TINY, TINY]


def test_the_command_prints_them_aligned_and_as_json(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["compare", *map(str, runs), "--page", str(tmp_path / "page.html")]
    assert main(line) == 0
    *printed, page = capsys.readouterr().out.splitlines()
    assert len({len(each) for each in printed}) == 1
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page == f"page: {tmp_path / 'page.html'}"
    assert text.count("data:image/png") == 2
    assert "<polyline" in text
    assert main([*line, "--json"]) == 0
    assert [each["seed"] for each in json.loads(capsys.readouterr().out)] == ["0", "1"]


def test_a_page_is_written_anew(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    page = runs[0] / "report.html"
    before = page.read_text(encoding="utf-8")
    page.unlink()
    assert main(["report", str(runs[0])]) == 0
    assert capsys.readouterr().out == f"report: {page}\n"
    assert page.read_text(encoding="utf-8") == before


def test_mistakes_are_told(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two runs or more"):
        datafree.compare(runs[:1])
    with pytest.raises(ValueError, match="two runs or more"):
        datafree.compare([runs[0], runs[0]])
    with pytest.raises(ValueError, match="not the record of a run"):
        datafree.compare([runs[0], tmp_path])
    with pytest.raises(ValueError, match="no finished run"):
        datafree.report(tmp_path)
