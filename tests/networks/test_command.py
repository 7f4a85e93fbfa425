"""A program as a teacher: whatever it does ends in an answer or in one sentence, and leaves no process behind."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import INPUTS, TINY, noise_images, start, stored_images

from datafree import BlackBox, Command, distill
from datafree.cli import main
from datafree.networks.black_box import npy

# The program of docs/blackbox.md, with the ways in which it may fail; it needs numpy only.
PROGRAM = """
import io, os, struct, sys, time, types
import numpy as np

pipe = types.SimpleNamespace(read=sys.stdin.buffer.read, write=sys.stdout.buffer.write)
mode = sys.argv[1] if sys.argv[1:] else ""
weights = np.random.default_rng(0).normal(size=(64, 10)).astype("float32")
if mode == "writes first":
    print("loading the model", flush=True)
if mode == "notes its process":
    open(sys.argv[2], "w").write(str(os.getpid()))
count = 0
while sys.stdin.buffer.peek(1):
    images = np.lib.format.read_array(pipe)
    logits = images.reshape(len(images), -1) @ weights
    count += 1
    late = count > int(sys.argv[3]) if sys.argv[3:] else True
    if mode == "ends":
        sys.exit("no licence")
    if mode == "is killed":
        os.kill(os.getpid(), 9)
    if mode == "hangs" and late:
        print("waiting for the network", file=sys.stderr, flush=True)
        if sys.argv[2:]:
            open(sys.argv[2] + ".new", "w").write(str(os.getpid()))
            os.rename(sys.argv[2] + ".new", sys.argv[2])
        time.sleep(600)
    if mode == "closes its output":
        os.close(1)
        time.sleep(600)
    if mode == "writes garbage":
        pipe.write(b"0.1 0.2 0.3\\n" * 99)
    if mode == "writes half":
        pipe.write(b"\\x93NUMPY\\x01\\x00")
        sys.exit()
    if mode == "writes another header":
        pipe.write(b"\\x93NUMPY\\x01\\x00\\x06\\x00{[3}]\\n")
    if mode == "writes objects":
        np.lib.format.write_array(pipe, np.array([{}] * len(images)))
    if mode == "writes too much":
        pipe.write(b"\\x93NUMPY\\x01\\x00")
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000)}\\n"
        pipe.write(struct.pack("<H", len(header)) + header)
    if mode == "answers too few":
        logits = logits[1:]
    if mode == "answers NaN":
        logits[-1] = np.nan
    if mode == "writes much on standard error":
        print("step " * 40000, file=sys.stderr, flush=True)
    if mode == "other type":
        logits = np.asfortranarray(logits.astype(">f8"))
    if mode == "segments":
        logits = np.stack([images[:, 0], -images[:, 0]], 1)
    np.lib.format.write_array(pipe, logits)
    sys.stdout.buffer.flush()
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "vendor.py"
    path.write_text(PROGRAM)
    return path


def line(program: Path, *arguments: object) -> str:
    return f"{sys.executable} {program} " + " ".join(f"'{each}'" for each in arguments)


def gone(process: int) -> bool:
    """Whether a process ends within seconds."""
    for _ in range(100):
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def wait_for(file: Path) -> None:
    """Wait until a run has made `file`, at most half a minute."""
    for _ in range(600):
        if file.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{file} was not made")


def expected(x: torch.Tensor) -> torch.Tensor:
    weights = np.random.default_rng(0).normal(size=(64, 10)).astype("float32")
    return torch.from_numpy(x.numpy().reshape(len(x), -1) @ weights)


@pytest.mark.parametrize("mode", ["", "other type", "writes much on standard error"])
def test_a_program_answers_batch_after_batch(program: Path, mode: str) -> None:
    x = noise_images()
    with Command(line(program, mode)) as command:
        for some in (x, x[:1], x[3:]):
            found = command(some)
            assert found.dtype == torch.float32
            assert torch.equal(found, expected(some))
        assert command._pipes
        process = command._pipes.process
        assert process.poll() is None
    assert process.poll() == 0, "it ended by itself, at the end of its input"


def test_a_program_that_segments(program: Path) -> None:
    x = noise_images()
    with Command(line(program, "segments")) as command:
        box = BlackBox(command, INPUTS, batch=5)
        assert torch.equal(box(x), torch.stack([x[:, 0], -x[:, 0]], 1))


def test_questions_and_answers_larger_than_a_pipe_do_not_wait_for_each_other(tmp_path: Path) -> None:
    code = "import sys\nwhile part := sys.stdin.buffer.read(1000):\n    sys.stdout.buffer.write(part)\n    sys.stdout.flush()\n"
    (tmp_path / "echo.py").write_text(code)
    x = torch.rand(1, 1, 1000, 500)
    with Command(f"{sys.executable} {tmp_path / 'echo.py'}", seconds=20) as command:
        command._start().write(npy.encoded(x.numpy()) + bytes(1000), 20)
        assert command._pipes
        assert np.array_equal(npy.read_array(command._pipes.read), x.numpy())


FAILURES = {
    "ends": "ended with status 1 instead of answering 4 images; it must read one .npy after the other .*: no licence.",
    "is killed": "ended by SIGKILL instead of answering 4 images",
    "hangs": "did not answer 4 images within 1 seconds; give it more time .--teacher-timeout.*: waiting for the network.",
    "closes its output": "ended its output instead of answering 4 images",
    "writes first": "wrote b'loading ' where a .npy file of version 1.0 should begin",
    "writes garbage": "wrote b'0.1 0.2 ' where a .npy",
    "writes half": "ended with status 0 instead",
    "writes another header": "wrote a .npy file whose header does not read",
    "writes objects": "wrote an array of type object; it must write numbers",
    "writes too much": "wrote an array .1000000, 1000000. of 3,814,697 MiB, more than 256",
    "answers too few": r"answers 4 images with numbers \[3, 10\], not \[4, classes\]",
    "answers NaN": "answers image 4 of 4 with NaN or infinity",
}


@pytest.mark.parametrize("mode", FAILURES)
def test_a_program_that_fails_ends_in_a_sentence_and_is_gone(program: Path, mode: str) -> None:
    # Only the one that hangs is given a short time: the others must not be slow to be found out.
    started: list[Any] = []
    with Command(line(program, mode), seconds=1 if mode == "hangs" else 60) as command:
        start, began = command._start, time.monotonic()

        def noted() -> Any:
            started.append(start())
            return started[0]

        command._start = noted  # type: ignore[method-assign]
        with pytest.raises(ValueError, match=f"(?s)^The command '.*' {FAILURES[mode]}") as error:
            BlackBox(command, INPUTS)
        assert time.monotonic() - began < 8
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")
    assert started[0].process.poll() is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/no/such/program", "cannot be started"),
        ("/etc/passwd", "cannot be started"),
        ("", "is empty"),
        ("a 'b", "does not read"),
    ],
)
def test_what_is_no_program_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Command(text)(noise_images())


def test_what_it_started_goes_with_it(tmp_path: Path) -> None:
    noted = tmp_path / "process"
    with (
        Command(f"sh -c 'sleep 600 & echo $! > {noted}; wait'", seconds=1) as command,
        pytest.raises(ValueError, match="did not answer"),
    ):
        command(noise_images())
    assert gone(int(noted.read_text()))


PLAN = (
    "--recipe procedural-light "
    "--method.supply.candidates 2 --method.supply.batch 8 --plan.rounds 6 --plan.warmup 1 --plan.steps 2 "
    "--plan.batch 8 --plan.images-per-round 8 --plan.save-every 1 --plan.log-every 1 --plan.grid-every 0 --device cpu"
)


def words_of(program: Path, out: Path, *arguments: object) -> list[str]:
    asked = ["--teacher-command", line(program, *arguments), "--inputs", "1x8x8", "--mean", "0.3", "--std", "0.4"]
    return ["distill", *asked, "--student", TINY, *PLAN.split(), "--out", str(out)]


def test_a_killed_run_resumes_to_the_same_student(program: Path, tmp_path: Path) -> None:
    whole, out, noted = tmp_path / "whole", tmp_path / "out", tmp_path / "process"
    assert main(words_of(program, whole)) == 0
    # By the 21st question it is in its rounds, and waits there for an answer that does not come.
    run = start(main, words_of(program, out, "hangs", noted, 20), streams=tmp_path / "streams")
    wait_for(noted)
    assert (out / "checkpoint.pt").exists()
    assert run.pid
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    os.kill(int(noted.read_text()), signal.SIGKILL)  # which would wait on, since nothing reads its input
    assert main(words_of(program, out)) == 0
    assert (out / "student.safetensors").read_bytes() == (whole / "student.safetensors").read_bytes()


def test_a_program_ends_with_a_killed_run(program: Path, tmp_path: Path) -> None:
    noted = tmp_path / "process"
    words = words_of(program, tmp_path / "out", "notes its process", noted)
    words[words.index("--plan.rounds") + 1] = "100000"
    run = start(main, words, streams=tmp_path / "streams")
    wait_for(tmp_path / "out" / "checkpoint.pt")
    assert run.pid
    os.kill(run.pid, signal.SIGKILL)
    assert gone(int(noted.read_text()))
    run.join()


def test_settings_of_a_run_do_not_name_its_program(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words_of(program, tmp_path / "one")) == 0
    config = ["distill", "--config", str(tmp_path / "one" / "run.json"), "--device", "cpu", "--out", str(tmp_path / "two")]
    capsys.readouterr()
    assert main(config) == 1
    assert "There is no teacher; name its file, or pass --teacher-command" in capsys.readouterr().err
    asked = ["--teacher-command", line(program), "--inputs", "1x8x8", "--mean", "0.3", "--std", "0.4"]
    assert main([*config, *asked]) == 0
    students = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("one", "two")]
    assert students[0] == students[1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("", "There is no teacher; name its file, or pass --teacher-command"),
        ("x.safetensors --teacher-command y --inputs 1x8x8", "There are two teachers, x.safetensors and --teacher-command"),
        ("--teacher-command y", "A command does not say what its inputs look like; pass --inputs"),
        ("--teacher-command y --inputs 8x8", "--inputs '8x8' is not CHANNELSxHEIGHTxWIDTH"),
        ("x.safetensors --mean 0.1", "--mean and --std belong to --inputs"),
        ("--teacher-command y --inputs 1x8x8 --teacher-batch 0", "teacher_batch: input should be greater than 0"),
    ],
)
@pytest.mark.parametrize(
    "verb", ["distill --student lenet5-half --out r", "synthesize --recipe procedural-light --n 9 --out r"]
)
def test_mistakes_end_in_one_sentence(verb: str, flags: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb.split()[:1], *flags.split(), *verb.split()[1:]]) in (1, 2)
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_a_set_is_asked_about_once(program: Path, tmp_path: Path) -> None:
    images = stored_images(tmp_path)
    flags = f"--recipe stored-mnist --method.path {images} --method.look.augment.crop 0 --plan.rounds 4 --plan.steps 20"
    words = [*words_of(program, tmp_path / "run")[:9], *flags.split(), "--plan.batch", "8", "--device", "cpu"]
    assert main([*words, "--student", TINY, "--out", str(tmp_path / "run")]) == 0
    from test_black_box import results

    found = results(tmp_path / "run")
    assert found["teacher_queries"] == 4 * 20 * 8
    assert found["answers_reused"] == 4 * 20 * 8 - 40


def test_a_command_is_a_function(program: Path) -> None:
    with Command(line(program)) as command:
        student = distill(command, TINY, recipe="procedural-light", budget="512images", inputs=INPUTS, device="cpu", quiet=True)
    assert student(noise_images()).shape == (12, 10)
