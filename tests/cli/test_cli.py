"""The command line, as a person uses it."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from helpers import INPUTS, TINY, network

from datafree import RECIPES, load
from datafree.cli.app import main
from datafree.cli.distill import distill_command
from datafree.cli.synthesize import synthesize_command
from datafree.engine.plan import Plan
from datafree.recipes import recipe_from

SMALL = [
    *("--recipe", "dfad-digits", "--student", TINY, "--device", "cpu", "--method.latent.width", "8", "--method.batch", "8"),
    *(
        "--plan.rounds",
        "4",
        "--plan.steps",
        "5",
        "--plan.batch",
        "8",
        "--plan.grid-every",
        "2",
        "--plan.eval-every",
        "2",
        "--plan.log-every",
        "1",
    ),
]


def said(capsys: pytest.CaptureFixture[str], *line: object, status: int = 0) -> str:
    """What a command prints, both streams; its status is checked."""
    assert main([str(word) for word in line]) == status
    streams = capsys.readouterr()
    return streams.out + streams.err


def test_teach_inspect_evaluate(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "taught.safetensors"
    text = said(capsys, "teach", images, "--arch", TINY, "--out", out, "--epochs", 2, "--device", "cpu", "--eval", images)
    assert "epoch 2/2" in text
    assert "accuracy" in text
    assert load(out).card.history[0]["epochs"] == 2
    text = said(capsys, "inspect", out)
    # conv1 8x8 positions x 9 x 8, conv2 4x4 x 72 x 16, fc1 64 x 32, fc2 32 x 10
    assert f"{64 * 72 + 16 * 72 * 16 + 64 * 32 + 320:,} an input" in text
    assert "weights         3,682" in text
    assert "100.00 %" in said(capsys, "evaluate", out, "--data", images, "--against", out, "--device", "cpu")


@pytest.mark.parametrize("text", ["[1]", "3", "true", "null", '"x"', "[" * 3000, "{", '{"a": [1]}', "9" * 5000, ""])
def test_options_that_are_no_object_are_refused_by_their_flag(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"pack {tmp_path / 'w.pt'} --arch small-cnn --inputs 1x8x8 --classes 10 --out {tmp_path / 'packed'} --options"
    assert main([*line.split(), text]) == 1
    said = capsys.readouterr().err
    assert said.startswith("datafree: --options ")
    assert said.count("\n") == 1
    assert len(said) < 500


def test_pack_takes_a_description(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": network(1).module.state_dict()}, tmp_path / "w.th")
    flags = ["--classes", 10, "--inputs", "1x8x8", "--mean", 0.3, "--std", 0.4, "--out", tmp_path / "n.safetensors"]
    assert "3,682 weights" in said(capsys, "pack", tmp_path / "w.th", "--arch", TINY, *flags)
    assert load(tmp_path / "n.safetensors").card.inputs == INPUTS


def test_distill_leaves_a_folder_that_a_person_can_read(
    tmp_path: Path, teacher_file: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    text = said(capsys, "distill", teacher_file, *SMALL, "--out", run, "--eval", images, "--tensorboard")
    assert "finished" in text
    record = json.loads((run / "run.json").read_text())
    results = record["results"]
    assert record["status"] == "finished"
    assert record["provenance"]["data_free"] is True
    assert record["provenance"]["training"] == "none"
    assert record["provenance"]["evaluation"]["images"] == 40
    assert results["images"] == 4 * 5 * 8
    # Each round the generator asks about one batch of fakes and the student about five.
    assert results["teacher_queries"] == 4 * 6 * 8
    assert results["peak_mb"] > 10
    assert {"command", "versions", "machine", "teacher", "student", "identity"} <= set(record)
    assert (run / "log.csv").read_text().startswith("round,generator_gap,student_loss")
    assert sorted(p.name for p in (run / "images").iterdir()) == ["round-000002.png", "round-000004.png"]
    assert list((run / "tensorboard").iterdir())
    student = load(run / "student.safetensors")
    assert student.card.history[0]["method"] == "dfad"
    assert student.card.inputs == INPUTS

    again = said(capsys, "distill", teacher_file, *SMALL, "--out", run, "--eval", images)
    assert "already finished" in again


def test_a_student_file_is_a_teacher_file(tmp_path: Path, teacher_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "distill", teacher_file, *SMALL, "--out", tmp_path / "one")
    said(capsys, "distill", tmp_path / "one" / "student.safetensors", *SMALL, "--out", tmp_path / "two")
    assert load(tmp_path / "two" / "student.safetensors").card.architecture == TINY


def test_settings_come_back_from_run_json(tmp_path: Path, teacher_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "distill", teacher_file, *SMALL, "--seed", 3, "--out", tmp_path / "one")
    config = ["--config", tmp_path / "one" / "run.json", "--device", "cpu"]
    said(capsys, "distill", teacher_file, *config, "--out", tmp_path / "two")
    students = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("one", "two")]
    assert students[0] == students[1]
    said(capsys, "distill", teacher_file, *config, "--plan.rounds", 2, "--out", tmp_path / "three")
    assert json.loads((tmp_path / "three" / "run.json").read_text())["identity"]["plan"]["rounds"] == 2
    assert "[default: 3]" in said(capsys, "distill", *config, "--help")


def test_stored_teaches_on_unlabelled_images_and_says_so(
    tmp_path: Path, teacher_file: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--student", TINY, "--device", "cpu", "--plan.rounds", 2, "--plan.steps", 2, "--plan.batch", 8]
    line = ["distill", teacher_file, "--recipe", "stored-mnist", "--method.path", images, *flags, "--out", tmp_path / "run"]
    said(capsys, *line)
    provenance = json.loads((tmp_path / "run" / "run.json").read_text())["provenance"]
    assert provenance["data_free"] is False
    assert "images.npz" in provenance["training"]


def test_dry_run_goes_through_every_phase_and_leaves_nothing(
    tmp_path: Path, teacher_file: Path, images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    line = ["distill", teacher_file, "--recipe", "dfad-cifar10", "--student", TINY, "--eval", images, "--dry-run"]
    assert "dry run passed" in said(capsys, *line, "--device", "cpu")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["demo", "pack", "teach", "distill", "synthesize", "evaluate", "inspect", "export-set"])
def test_every_command_has_help_of_its_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"Usage: datafree {command}" in said(capsys, command, "--help")


@pytest.mark.parametrize("name", {recipe.method.name: name for name, recipe in RECIPES.items()}.values())
def test_help_shows_the_recipes_own_defaults(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One recipe a method: to print the help takes most of a second."""
    text = " ".join(said(capsys, "distill", "--recipe", name, "--help").replace("│", " ").split())  # lines break anywhere
    assert f"[default: {RECIPES[name].plan.lr}]" in text
    assert "--method." in text


@pytest.mark.parametrize("name", RECIPES)
def test_defaults_of_the_flags_are_the_recipes(name: str) -> None:
    for make in (distill_command, synthesize_command):
        flags = make(["x", "--recipe", name]).__annotations__
        assert get_args(flags["method"])[0]().model_dump() == RECIPES[name].method.model_dump()
    plan = get_args(distill_command(["x", "--recipe", name]).__annotations__["plan"])[0]()
    assert plan.model_dump() == RECIPES[name].plan.model_dump()


def test_a_nested_flag_leaves_the_recipes_other_values(
    tmp_path: Path, teacher_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = "--method.inversion.steps 2 --plan.rounds 3 --plan.warmup 1 --plan.synthesis-rounds 1 --plan.steps 1".split()
    fast += "--plan.images-per-round 8".split()
    line = ["distill", teacher_file, "--recipe", "sttss-mnist", "--student", TINY, "--device", "cpu", *fast]
    said(capsys, *line, "--method.look.augment.scale", 0.2, "--out", tmp_path / "run")
    augment = json.loads((tmp_path / "run" / "run.json").read_text())["identity"]["method"]["look"]["augment"]
    assert augment == {"crop": 0, "shift": 0.1, "scale": 0.2, "degrees": 10, "flip": False, "jitter": 0}


def test_recipes_survive_the_way_through_json() -> None:
    for recipe in RECIPES.values():
        back = recipe_from(json.loads(json.dumps(recipe.settings())))
        assert (back.method, back.plan) == (recipe.method, recipe.plan)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("distil x", "Did you mean"),
        ("distill x --recipe dfad-mnist --plan.round 3", "Did you mean --plan.rounds"),
        ("distill x --recipe dfad-mnist --plan.rounds 0", "rounds: input should be greater than 0"),
        ("distill x --recipe dfad-mnist --plan.warmup 9999", "datafree: Plan: value error, warmup 9999 leaves no round"),
        ("distill x --recipe dfad-mnist --method.latent.generator gan", "generator"),
        ("distill x --recipe dfad-mnis", "No recipe is named 'dfad-mnis'; did you mean dfad-mnist?"),
        ("reproduce dfad-minst --data x", "No experiment is named 'dfad-minst'; did you mean dfad-mnist?"),
        ("distill x --student lenet5-half --out y", "x does not exist"),
        ("distill x --recipe dfad-mnist --out y", "--student NAME"),
        ("distill x --recipe dfad-mnist --student lenet5-half", "--out RUN"),
        ("distill nothing.safetensors --recipe dfad-mnist --student lenet5-half --out y", "does not exist"),
        ("inspect nothing.safetensors", "does not exist"),
        ("pack nothing.pt --arch lenet5 --out y --inputs 1x32x32 --classes 10", "does not exist"),
        ("pack x --arch lenet5 --out y --inputs 32x32 --classes 10", "not CHANNELSxHEIGHTxWIDTH"),
        ("teach nothing.npz --arch lenet5 --out y", "does not exist"),
        ("evaluate nothing.safetensors --data y", "does not exist"),
    ],
)
def test_mistakes_end_in_one_sentence(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) in (1, 2)
    lines = capsys.readouterr().err.splitlines()
    if line.startswith(("distill", "teach")):  # which say at once that they start
        assert lines.pop(0).startswith("datafree 0")
    assert len(lines) == 1
    assert lines[0].startswith("datafree: ")
    assert words in lines[0]


def test_a_config_of_the_format_before_is_refused_by_its_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"identity": {"method": {"name": "dfad", "latent": 100}, "plan": {}}}))
    assert main(["distill", "x", "--config", str(tmp_path / "run.json"), "--out", str(tmp_path / "out")]) == 1
    assert "is a record of format 1" in capsys.readouterr().err


def test_schedules_fall_as_they_say() -> None:
    steps = Plan(rounds=100, schedule="steps", milestones=(10, 20), decay=0.1)
    assert [steps.rate(r) for r in (0, 9, 10, 19, 20, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    cosine = Plan(rounds=100, schedule="cosine")
    assert [cosine.rate(r) for r in (0, 50)] == pytest.approx([1, 0.5])
    assert cosine.rate(99) < 0.001


def test_flags_reach_a_host_inside_its_method(tmp_path: Path, teacher_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("diffusers", reason="the extra [diffusion] is not installed")
    small = (
        "--method.host.inversion.steps 2 --method.host.inversion.batch 4 --method.bank 4 --method.batch 4 --method.omega -1 "
    )
    small += "--method.diffusion.updates 2 --method.diffusion.strength 0.3 --method.sources 4 --device cpu "
    small += "--plan.rounds 2 --plan.warmup 1 --plan.images-per-round 8 --plan.steps 1"
    line = ["distill", teacher_file, "--student", TINY, "--recipe", "dda-deepinversion-light", *small.split()]
    assert "dry run passed" in said(capsys, *line, "--dry-run")
    text = said(capsys, *line, "--out", tmp_path / "run")
    assert "slice 2/2" in text
    assert "kept/" not in text, "one of many numbers is for the log alone"
    found = json.loads((tmp_path / "run" / "run.json").read_text())["identity"]["method"]
    assert (found["host"]["name"], found["host"]["inversion"]["steps"], found["host"]["inversion"]["lr"]) == (
        "deepinversion",
        2,
        0.2,
    )
    assert (found["diffusion"]["strength"], found["diffusion"]["width"]) == (0.3, 16)
    again = ["distill", teacher_file, "--student", TINY, "--config", tmp_path / "run" / "run.json", "--device", "cpu"]
    said(capsys, *again, "--out", tmp_path / "again")
    students = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("run", "again")]
    assert students[0] == students[1]


@pytest.mark.parametrize(
    "entry", [{"student": 20000}, {"student": {"architecture": 3}}, {"seed": 1.0}, {"precision": 7}, {"compile": []}]
)
def test_settings_of_other_types_than_a_run_writes_are_refused(
    tmp_path: Path, teacher_file: Path, capsys: pytest.CaptureFixture[str], entry: dict[str, object]
) -> None:
    line = [
        "distill",
        str(teacher_file),
        "--student",
        TINY,
        "--recipe",
        "dfad-digits",
        "--device",
        "cpu",
        "--budget",
        "64images",
    ]
    flags = "--method.latent.width 8 --method.batch 8 --plan.steps 1 --plan.batch 8"
    assert main([*line, *flags.split(), "--out", str(tmp_path / "run")]) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "foreign.json").write_text(json.dumps(record | {"identity": record["identity"] | entry}))
    capsys.readouterr()
    line = ["distill", str(teacher_file), "--config", str(tmp_path / "foreign.json"), "--out", str(tmp_path / "out")]
    assert main(line) == 1
    assert "settings that no run has" in capsys.readouterr().err.splitlines()[-1]
