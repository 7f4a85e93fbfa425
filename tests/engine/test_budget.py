"""A run as long as its budget."""

import json
import time
from pathlib import Path

import pytest
import torch
from helpers import TINY, network

from datafree import DFAD, InputSpec, Plan, Recipe, distill
from datafree.cli.app import main
from datafree.core.runtime import Runtime
from datafree.engine import budget as budgets
from datafree.engine import loop
from datafree.engine.budget import Budget, Pace, measure, parse_budget, stretched
from datafree.engine.method import Problem
from datafree.networks.teacher import Teacher

METHOD = DFAD(latent={"size": 4, "width": 8}, batch=8)
PLAN = Plan(rounds=10, steps=2, batch=8, log_every=1, eval_every=0, grid_every=0, save_every=2)
SET = Plan(rounds=30, warmup=10, synthesis_rounds=10, images_per_round=50, pool_size=500, steps=2, milestones=(20, 25))


def test_budgets_are_read_and_others_refused_in_words() -> None:
    assert [parse_budget(text).seconds for text in ("90s", "20m", "1.5h")] == [90, 1200, 5400]
    assert parse_budget("50000images") == Budget(images=50_000)
    assert parse_budget("2m-cpu") == Budget(seconds=120, clock="cpu")
    for wrong in ("20", "20 minutes", "-3m", "images", "", "20-cpu", "90images-cpu"):
        with pytest.raises(ValueError, match="write 20m"):
            parse_budget(wrong)


def test_images_stretch_every_phase_alike() -> None:
    plan = stretched(SET, Budget(images=1000))
    assert (plan.synthesis_rounds, plan.warmup, plan.rounds, plan.pool_size, plan.milestones) == (20, 20, 60, 1000, (40, 50))
    assert plan.images() * plan.synthesis_rounds == 1000
    assert stretched(PLAN, Budget(images=160)).rounds == 10


def test_time_is_shared_by_what_rounds_cost() -> None:
    pace = Pace(prepare=5, make=2, learn=1)
    plan = stretched(SET, Budget(seconds=105), pace)
    assert 0.85 * 105 <= pace.seconds(plan) <= 105
    assert plan.rounds - plan.warmup == pytest.approx(2 * plan.warmup, abs=2)


def test_a_phase_that_would_vanish_keeps_one_round() -> None:
    plan = stretched(SET, Budget(images=30))
    assert (plan.warmup, plan.synthesis_rounds, plan.rounds) == (1, 1, 2)


def test_evaluations_are_as_many_as_in_the_recipe() -> None:
    plan = SET.model_copy(update={"eval_every": 4, "grid_every": 0})
    assert [stretched(plan, Budget(images=each)).eval_every for each in (500, 1000, 100)] == [4, 8, 1]
    assert stretched(plan, Budget(images=1500)).grid_every == 0


def test_measuring_is_part_of_the_budget_but_at_most_half_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = InputSpec(shape=(1, 2, 2))
    problem = Problem(Teacher(torch.nn.Flatten(), inputs, Runtime("cpu")), torch.nn.Flatten(), inputs, 4)
    for took, left in ((0.0, 100.0), (30.0, 70.0), (200.0, 50.0)):
        clock = iter((0.0, took))
        monkeypatch.setattr(budgets.time, "monotonic", lambda clock=clock: next(clock))
        monkeypatch.setattr(budgets, "measure", lambda *_: Pace(prepare=0, make=0.5, learn=0.5))
        fitted = budgets.fit_to_budget(Recipe(METHOD, PLAN, "test"), "100s", problem, None, quiet=True)
        assert fitted.plan.rounds == pytest.approx(budgets.MARGIN * left, abs=1)


def test_a_budget_too_small_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="give more, or a smaller recipe"):
        stretched(SET, Budget(images=20))
    with pytest.raises(ValueError, match="give more, or a smaller recipe"):
        stretched(SET, Budget(seconds=6), Pace(prepare=10, make=1, learn=1))


def test_measuring_touches_nothing() -> None:
    runtime = Runtime("cpu")
    student = network(2).module.train()
    problem = Problem(Teacher(network(1).module, network(1).card.inputs, runtime), student, network(1).card.inputs, 10)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    states = runtime.random.get_state(), torch.get_rng_state(), runtime.counters.state_dict()
    pace = measure(problem, Recipe(METHOD, PLAN, "test"))
    assert pace.make > 0
    assert pace.learn > 0
    assert torch.equal(states[0], runtime.random.get_state())
    assert torch.equal(states[1], torch.get_rng_state())
    assert states[2] == runtime.counters.state_dict()
    assert all(torch.equal(value, student.state_dict()[name]) for name, value in before.items())
    assert all(weight.grad is None for weight in student.parameters())


def test_more_rounds_are_measured_where_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    given = network(1).card.inputs
    problem = Problem(Teacher(network(1).module, given, Runtime("cpu")), network(2).module, given, 10)
    measured: list[int] = []

    def run_of(job: loop.Job) -> None:
        measured.append(job.plan.warmup)
        lines = [f"{i},{i}" for i in range(1, job.plan.rounds + 1)]  # a second a round
        job.folder.log.write_text("\n".join(["round,wall_s", *lines, ""]))

    monkeypatch.setattr(budgets, "run", run_of)
    for seconds, rounds in ((100, [2]), (700, [2, 9]), (10_000, [2, 12])):
        measured.clear()
        assert measure(problem, Recipe(METHOD, PLAN, "test"), seconds=seconds).make == 1
        assert measured == rounds


def test_images_end_a_run_where_they_say(tmp_path: Path, teacher_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = f"--student {TINY} --recipe dfad-digits --method.latent.width 8 --method.batch 8 --plan.steps 2 --plan.batch 8"
    line = ["distill", str(teacher_file), *flags.split(), "--device", "cpu", "--budget", "64images"]
    line += ["--out", str(tmp_path / "run")]
    assert main(line) == 0
    assert "budget 64images: 4 rounds, 64 images (the recipe's own: 150 rounds)" in capsys.readouterr().err
    found = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (found["results"]["rounds"], found["results"]["images"], found["budget"]) == (4, 64, "64images")
    assert main(line) == 0
    assert "already finished" in capsys.readouterr().out


def test_a_run_that_is_late_ends_with_its_student_and_resumes_by_its_first_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "measure", lambda *_: Pace(prepare=0, make=0.5e-6, learn=0.5e-6))  # far too hopeful
    out = tmp_path / "run"
    write = loop.RunLog.write

    def die(log: loop.RunLog, round_: int, values: dict[str, float]) -> None:
        if round_ == 3:
            raise MemoryError("killed")
        write(log, round_, values)

    def run(budget: str = "1s") -> None:
        distill(network(1), TINY, recipe=Recipe(METHOD, PLAN, "test"), out=out, quiet=True, device="cpu", budget=budget)

    with monkeypatch.context() as patch:
        patch.setattr(loop.RunLog, "write", die)
        with pytest.raises(MemoryError):
            run()
    planned = json.loads((out / "run.json").read_text())["identity"]["plan"]["rounds"]
    monkeypatch.setattr(budgets, "measure", lambda *_: Pace(prepare=0, make=1e-3, learn=1e-3))  # it is not asked again
    run()
    found = json.loads((out / "run.json").read_text())
    assert found["identity"]["plan"]["rounds"] == planned > 10_000
    assert found["status"] == "finished"
    assert 3 < found["results"]["rounds"] < planned
    assert 1 <= found["results"]["wall_s"] < 5
    assert (out / "student.safetensors").exists()
    with pytest.raises(ValueError, match="holds another run"):
        run("2s")


def test_cpu_time_is_that_of_the_process_and_not_of_the_wall(tmp_path: Path) -> None:
    """A run that waits spends wall time only; a budget of CPU time does not count the waiting."""
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        write = loop.RunLog.write

        def wait(log: loop.RunLog, round_: int, values: dict[str, float]) -> None:
            time.sleep(0.05)
            write(log, round_, values)

        patch.setattr(loop.RunLog, "write", wait)
        patch.setattr(budgets, "measure", lambda *_: Pace(prepare=0, make=1e-3, learn=1e-3))
        distill(network(1), TINY, recipe=Recipe(METHOD, PLAN, "test"), out=out, quiet=True, device="cpu", budget="0.5s-cpu")
    results = json.loads((out / "run.json").read_text())["results"]
    assert 0.5 <= results["cpu_s"] < results["wall_s"]
    rows = (out / "log.csv").read_text().splitlines()
    assert {"wall_s", "cpu_s"} <= set(rows[0].split(","))
