"""The student of a run: by a size, with options, with resized inputs, with weights to begin with; and after a resume."""

import json
from pathlib import Path

import pytest
import torch
from helpers import INPUTS, TINY, network

import datafree
from datafree import Network, distill, load
from datafree.cli.app import main
from datafree.core.files import sha256
from datafree.engine.recipe import Recipe
from datafree.engine.record import STUDENT, taken_before
from datafree.networks.shrink import choose
from datafree.networks.shrink.resized import Resized
from datafree.networks.start import start_from
from datafree.recipes import find_recipe

TAKEN = "small-cnn,width=3"  # what 4x takes for the teacher of these tests


def recipe(rounds: int = 3) -> Recipe:
    light = find_recipe("procedural-light").dry_run()
    return Recipe(light.method, light.plan.replaced(rounds=rounds, save_every=1), light.source)


def run(teacher: Network, student: str, out: Path, **how: object) -> dict[str, object]:
    distill(teacher, student, recipe=recipe(), out=out, device="cpu", quiet=True, **how)  # type: ignore[arg-type]
    found: dict[str, object] = json.loads((out / "run.json").read_text())
    return found


def test_a_size_gives_the_same_student_as_its_name(teacher: Network, tmp_path: Path) -> None:
    asked = run(teacher, "4x", tmp_path / "asked")
    run(teacher, TAKEN, tmp_path / "named")
    student = asked["identity"]["student"]  # type: ignore[index]
    assert student["architecture"] == "small-cnn"
    assert student["options"] == {"width": 3}
    assert student["request"] == "4x"
    assert str(asked["student_choice"]).startswith(f"{TAKEN} for 4x: ")
    assert sha256(tmp_path / "asked" / STUDENT) == sha256(tmp_path / "named" / STUDENT)
    found = load(tmp_path / "asked" / STUDENT)
    assert found.card.options == {"width": 3}
    assert found.parameters <= teacher.parameters / 4


def test_a_resumed_run_takes_the_student_that_it_began_with(
    teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A latency differs from one time to the next; here nothing can be measured at all when the run goes on."""
    speeds = lambda module, inputs, batch=1, **_: 1.0 + sum(weight.numel() for weight in module.parameters()) / 1000  # noqa: E731
    for place in ("candidates", "choose"):
        monkeypatch.setattr(f"datafree.networks.shrink.{place}.latency_ms", speeds)
    began = run(teacher, "2ms", tmp_path / "run")
    monkeypatch.setattr(choose.Chooser, "answer", lambda *_: pytest.fail("the resumed run looked for another student"))
    (tmp_path / "run" / STUDENT).unlink()
    again = run(teacher, "2ms", tmp_path / "run")
    assert again["identity"] == began["identity"]
    assert again["student"] == began["student"]
    assert again["student_choice"] == began["student_choice"]


def test_another_size_in_the_same_folder_is_refused(teacher: Network, tmp_path: Path) -> None:
    run(teacher, "4x", tmp_path)
    with pytest.raises(ValueError, match=r"holds another run: .*student"):
        run(teacher, "2x", tmp_path)


@pytest.mark.parametrize(
    "identity",
    [
        {},
        {"student": 3},
        {"student": {"architecture": "a", "options": {"x": [1]}, "request": "4x"}},
        {"student": {"options": 5}},
    ],
)
def test_a_record_of_another_form_is_no_choice(identity: object, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"identity": identity, "student_choice": "why"}))
    assert taken_before(tmp_path, "4x") is None


def test_the_command_line_lists_students_and_repeats_a_run(
    teacher_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["students", str(teacher_file), "--student", "4x"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["--student", "weights", "multiply-adds", "ms", "here", "MB"]
    assert lines[1].split()[0] == TAKEN
    flags = [
        "--recipe",
        "procedural-light",
        "--plan.rounds",
        "2",
        "--plan.warmup",
        "0",
        "--plan.batch",
        "8",
        "--plan.steps",
        "1",
    ]
    out = tmp_path / "run"
    line = ["distill", str(teacher_file), "--student", "4x", "--student-inputs", "1x4x4", *flags, "--device", "cpu"]
    assert main([*line, "--out", str(out)]) == 0
    assert "student: small-cnn,width=4 for 4x" in capsys.readouterr().err
    again = tmp_path / "again"
    assert main(["distill", str(teacher_file), "--config", str(out / "run.json"), "--device", "cpu", "--out", str(again)]) == 0
    assert sha256(out / STUDENT) == sha256(again / STUDENT)


def test_a_dry_run_takes_a_size(teacher: Network) -> None:
    datafree.dry_run(teacher, "4x", find_recipe("procedural-light"), device="cpu", quiet=True)


def test_a_student_begins_with_the_teachers_layers(teacher: Network, tmp_path: Path) -> None:
    student = network(2)
    said = start_from(student.module, "teacher", teacher.module)
    assert "100 % of the weights" in said
    assert all(torch.equal(value, student.module.state_dict()[name]) for name, value in teacher.module.state_dict().items())
    record = run(teacher, TINY, tmp_path, student_weights="teacher")
    assert record["identity"]["student"]["weights"] == "teacher"  # type: ignore[index]
    assert "from teacher" in str(record["student_start"])


def test_a_student_begins_with_a_file_and_another_file_is_another_run(teacher: Network, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    network(7).save(file)
    record = run(teacher, TINY, tmp_path / "run", student_weights=file)
    assert record["identity"]["files"][str(file)] == sha256(file)  # type: ignore[index]
    network(8).save(file)
    with pytest.raises(ValueError, match="holds another run"):
        run(teacher, TINY, tmp_path / "run", student_weights=file)


def test_weights_of_which_nothing_fits_are_refused(teacher: Network) -> None:
    with pytest.raises(ValueError, match="No tensor of the teacher has a name and shape of the student's"):
        start_from(network(0, "vit-mini").module, "teacher", teacher.module)


def test_a_student_resizes_the_teachers_inputs_inside_its_file(teacher: Network, tmp_path: Path) -> None:
    record = run(teacher, "small-cnn,width=4", tmp_path, student_inputs=(1, 4, 4), student_weights=None)
    assert record["identity"]["student"]["resized_to"] == [1, 4, 4]  # type: ignore[index]
    found = load(tmp_path / STUDENT)
    assert found.card.inputs == INPUTS
    assert isinstance(found.module, Resized)
    assert found.module.network.fc1.in_features == 8  # type: ignore[union-attr] - of 4x4 inputs, halved twice
    x = torch.randn(3, *INPUTS.shape)
    small = torch.nn.functional.interpolate(x, size=(4, 4), mode="bilinear", antialias=True)
    assert torch.allclose(found.module(x), found.module.network(small))


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 16, 4), (1, 0, 4)])
def test_inputs_that_a_student_cannot_resize_to_are_refused(shape: tuple[int, int, int], teacher: Network) -> None:
    with pytest.raises(ValueError, match="takes the channels of 1x8x8 and no larger sides, not"):
        distill(teacher, TINY, student_inputs=shape, quiet=True)


def test_logits_of_pixels_have_the_size_of_the_inputs_again() -> None:
    inside = torch.nn.Conv2d(3, 5, 1)
    assert Resized(inside, (8, 8))(torch.randn(2, 3, 32, 24)).shape == (2, 5, 32, 24)


def test_a_card_without_resizing_is_as_it_was(teacher: Network) -> None:
    assert "resized_to" not in teacher.card.model_dump_json()
