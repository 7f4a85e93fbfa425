"""A function or a program can be a teacher: it is asked, and nothing else; what goes wrong ends in one sentence."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import INPUTS, TINY, network
from torch import Tensor

import datafree
from datafree.cli import main
from datafree.networks.black_box import BlackBox
from datafree.networks.sources import as_network

RECIPE = datafree.Recipe(datafree.Procedural(), datafree.Plan(rounds=4, steps=2, batch=16, pool_size=32), "a test")
# What a vendor's program looks like: numpy only.
PROGRAM = """
import io, sys, time
import numpy as np

class Pipe:
    read = staticmethod(sys.stdin.buffer.read)

weights = np.random.default_rng({seed}).normal(size=(64, 10)).astype("float32")
while True:
    try:
        images = np.lib.format.read_array(Pipe)
    except ValueError:
        break
    logits = np.tanh(images.reshape(len(images), -1) @ weights)
    {change}
    out = io.BytesIO()
    np.save(out, logits)
    sys.stdout.buffer.write(out.getvalue())
    sys.stdout.buffer.flush()
"""
FAILURES = {
    "sys.stderr.write('no licence'); sys.exit(3)": r"ended with status 3: no licence; see what it writes",
    "logits = logits[:, :1]": r"wrote something else than logits \(an array \[8, 1\] of float32 for 8 images\)",
    "logits = logits[:1]": r"wrote something else than logits \(an array \[1, 10\]",
    "logits = logits.astype(int)": r"of int64 for 8 images",
    "logits = np.array([None, 1])": r"wrote something else than logits",
    "print('loading the model', flush=True)": r"wrote something else than logits \(.*write one \.npy",
    "time.sleep(60)": r"gave no answer to 8 images within 2 s",
    "logits = logits * np.nan": r"NaN|finite",
}


def program(folder: Path, change: str = "pass", seed: int = 0) -> str:
    file = folder / f"answer-{seed}.py"
    file.write_text(PROGRAM.format(change=change, seed=seed))
    return f"{sys.executable} {file}"


def tiny(x: Tensor) -> Tensor:
    """A teacher that is a function."""
    with torch.no_grad():
        return network(1).module(x)  # type: ignore[no-any-return]


def test_a_function_teaches_as_its_network_does(tmp_path: Path) -> None:
    students = []
    for name, teacher in (("module", network(1)), ("function", tiny), ("numpy", lambda x: tiny(x).numpy())):
        torch.manual_seed(0)
        student = datafree.distill(teacher, TINY, recipe=RECIPE, inputs=INPUTS, out=tmp_path / name, device="cpu", quiet=True)
        students.append(student)
    module, function, numpy = (torch.cat([w.detach().flatten() for w in each.parameters()]) for each in students)
    assert torch.equal(function, numpy)
    assert torch.allclose(module, function, atol=1e-4), "a module is folded, which rounds otherwise"
    record = json.loads((tmp_path / "function" / "run.json").read_text())
    assert record["results"]["teacher_queries"] > 0
    assert record["teacher"]["parameters"] == 0


def test_a_program_teaches_and_the_run_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--inputs", "1x8x8", "--mean", ".3", "--std", ".4", "--student", TINY, "--device", "cpu", "--budget", "200images"]
    line += ["--recipe", "procedural-light", "--plan.batch", "16"]
    assert main(["distill", "--teacher-command", program(tmp_path), *line, "--out", str(tmp_path / "run")]) == 0
    assert main(["distill", "--teacher-command", program(tmp_path), *line, "--out", str(tmp_path / "run")]) == 0
    assert "already finished" in capsys.readouterr().out
    other = program(tmp_path, seed=1)
    assert main(["distill", "--teacher-command", other, *line, "--out", str(tmp_path / "run")]) == 1
    assert "teacher" in capsys.readouterr().err, "the folder is another teacher's"
    assert main(["distill", "--teacher-command", program(tmp_path), *line, "--dry-run"]) == 0


@pytest.mark.parametrize("change", FAILURES)
def test_a_program_that_fails_is_explained(tmp_path: Path, change: str) -> None:
    command = datafree.Command(program(tmp_path, change), seconds=2 if "sleep" in change else 60)
    with pytest.raises(ValueError, match=FAILURES[change]):
        as_network(command, INPUTS, role="teacher")


def test_a_program_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"cannot be started .* check its path"):
        as_network(datafree.Command("/no/such/program --flag"), INPUTS, role="teacher")
    with pytest.raises(ValueError, match="empty"):
        datafree.Command("  ")


def test_no_program_is_left_behind(tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    if images.sum() == 0: time.sleep(60)"
    command = datafree.Command(program(tmp_path, stubborn), seconds=1)
    command(torch.ones(2, 1, 8, 8))
    process = command.process
    assert process is not None
    began = time.monotonic()
    with pytest.raises(ValueError, match="within 1 s"):
        command(torch.zeros(2, 1, 8, 8))
    assert process.poll() is not None
    assert time.monotonic() - began < 20
    assert len(command(torch.ones(3, 1, 8, 8))) == 3, "the next question starts it again"
    process = command.process
    del command
    assert process is not None
    assert process.wait(10) == 0, "it ends by the end of its input"


def test_the_same_image_is_asked_about_once() -> None:
    box = BlackBox(tiny, INPUTS)
    x = torch.randn(20, *INPUTS.shape, generator=torch.Generator().manual_seed(1))
    asked = box.counts["asked"]
    first, again = box(x), box(x.flip(0)).flip(0)
    assert torch.equal(first, again)
    assert torch.equal(first, tiny(x))
    assert box.counts == {"asked": asked + 20, "remembered": 20}
    assert torch.equal(box(torch.cat([x[:1], x[:1], 2 * x[:1]]))[0], first[0])


def test_answers_are_kept_within_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datafree.networks.black_box.KEPT", 100)
    box = BlackBox(tiny, INPUTS)
    x = torch.randn(30, *INPUTS.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(box(x), tiny(x)), "more than are kept"
    assert len(box.kept) == 10


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: x, r"answers \[8, 1, 8, 8\] for 8 images"),
        (lambda x: "cat", "answers with a str, not with numbers"),
        (lambda x: tiny(x)[:1], r"answers \[1, 10\]"),
        (lambda x: 1 / 0, "division by zero"),
        (lambda x: tiny(x) * np.nan, r"NaN|finite"),
        (7, "is a int"),
    ],
)
def test_a_function_that_fails_is_explained(answer: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_network(answer, INPUTS, role="teacher")  # type: ignore[arg-type]


def test_what_needs_a_gradient_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="follows the teacher's gradient"):
        datafree.distill(tiny, TINY, recipe="dfad-mnist-light", inputs=INPUTS, device="cpu", quiet=True)
    with pytest.raises(ValueError, match="does not show how large it is"):
        datafree.distill(tiny, "4x", recipe=RECIPE, inputs=INPUTS, device="cpu", quiet=True)
    with pytest.raises(ValueError, match="A function has no input description"):
        datafree.distill(tiny, TINY, recipe=RECIPE, device="cpu", quiet=True)
    with pytest.raises(ValueError, match="no graph that could be kept"):
        as_network(tiny, INPUTS).save(tmp_path / "teacher.safetensors")


def test_the_line_names_one_teacher(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rest = ["--student", TINY, "--out", str(tmp_path / "run")]
    for line, message in (
        (["distill", *rest], "give its file, or --teacher-command"),
        (["distill", "teacher.safetensors", "--teacher-command", "true", *rest], "one of the two"),
        (["distill", "--teacher-command", "true", *rest], "pass --inputs"),
        (["distill", "teacher.safetensors", "--inputs", "1x8x8", *rest], "is for --teacher-command"),
    ):
        assert main(line) == 1
        assert message in capsys.readouterr().err
