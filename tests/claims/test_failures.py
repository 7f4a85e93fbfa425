"""What goes wrong ends in one clear sentence, and no finished work is lost."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import INPUTS, TINY, network, start, start_command, status
from torch import nn

from datafree import DFAD, Network, Plan, Recipe, Stored, distill
from datafree.cli import main
from datafree.core.files import replace_atomically
from datafree.engine import folder, loop
from datafree.engine.method import Method

METHOD = DFAD(latent={"size": 8, "width": 8}, batch=8)
PLAN = Plan(rounds=6, steps=2, batch=8, lr=0.05, save_every=2, log_every=1, eval_every=0, grid_every=0)


def run(out: Path, method: Method = METHOD, teacher: nn.Module | Network | None = None, **changes: object) -> dict[str, object]:
    recipe = Recipe(method, PLAN.model_copy(update=changes), "test")
    student = distill(teacher or network(1), TINY, inputs=INPUTS, recipe=recipe, out=out, quiet=True, device="cpu")
    return {name: value.tolist() for name, value in student.state_dict().items()}


def record(out: Path) -> dict[str, object]:
    return json.loads((out / "run.json").read_text())  # type: ignore[no-any-return]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"became (nan|inf) by round \d+; lower --plan\.lr"):
        run(tmp_path / "run", lr=1e30, rounds=50, log_every=50)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    assert record(tmp_path / "run")["status"] == "running"


def test_weights_that_break_after_a_good_loss_do_not_bury_the_good_checkpoint(tmp_path: Path, images: Path) -> None:
    # The schedule lifts the rate to infinity after round 4: that round's losses are finite, its weights are not.
    broken = {"schedule": "steps", "milestones": (3,), "decay": 1e38, "steps": 1, "rounds": 9, "save_every": 1}
    with pytest.raises(FloatingPointError, match="norm of the student's weights became"):
        run(tmp_path / "run", Stored(path=images), **broken)
    saved = torch.load(tmp_path / "run" / "checkpoint.pt")
    assert saved["round"] == 3
    assert all(value.isfinite().all() for value in saved["parts"]["student"].values())


def test_a_teacher_with_outputs_that_are_not_finite_is_refused(tmp_path: Path) -> None:
    teacher = network(1)
    with torch.no_grad():
        teacher.module.fc1.weight[0] = 3e38
    with pytest.raises(ValueError, match="not finite, first in layer 'fc1'"):
        run(tmp_path / "run", teacher=teacher)
    with torch.no_grad():
        teacher.module.fc1.weight[0] = torch.inf
    with pytest.raises(ValueError, match=r"1 of 14 weight tensors \(fc1\.weight first\) of the teacher hold NaN"):
        run(tmp_path / "run", teacher=teacher)
    assert not (tmp_path / "run").exists()


def test_shapes_that_networks_refuse_are_told() -> None:
    recipe = Recipe(METHOD, PLAN, "test")
    with pytest.raises(ValueError, match="takes 32x32 inputs, not 8x8"):
        distill(network(1), "lenet5-half", recipe=recipe, quiet=True)
    with pytest.raises(ValueError, match=r"inputs of 1x8x8 the student returns logits \[2\] and the teacher \[2, 8, 8\]"):
        distill(nn.Conv2d(1, 2, 1), TINY, inputs=INPUTS, recipe=recipe, quiet=True)
    with pytest.raises(ValueError, match=r"returns \[2, 1, 64\] for two inputs, not \[2, classes\] or"):
        distill(nn.Flatten(2), TINY, inputs=INPUTS, recipe=recipe, quiet=True)
    with pytest.raises(ValueError, match="student has 4 classes"):
        distill(network(1), network(2, classes=4).module, recipe=recipe, quiet=True)
    with pytest.raises(ValueError, match="pass inputs="):
        distill(network(1).module, TINY, recipe=recipe, quiet=True)


def test_a_folder_of_another_run_is_refused_by_the_setting_that_differs(tmp_path: Path) -> None:
    run(tmp_path / "run", rounds=2)
    with pytest.raises(ValueError, match=r"plan\.rounds is 2 there and 4 here\. Name a new folder"):
        run(tmp_path / "run", rounds=4)
    with pytest.raises(ValueError, match="teacher is"):
        run(tmp_path / "run", rounds=2, teacher=network(3))
    earlier = record(tmp_path / "run")
    del earlier["identity"]["compile"]  # type: ignore[attr-defined]
    (tmp_path / "run" / "run.json").write_text(json.dumps(earlier))
    with pytest.raises(ValueError, match="compile is unknown there and off here"):
        run(tmp_path / "run", rounds=2)


def test_a_folder_of_the_format_before_is_refused_by_its_format(tmp_path: Path) -> None:
    run(tmp_path / "run", rounds=2)
    earlier = record(tmp_path / "run")
    assert earlier["format"] == 2
    del earlier["format"]  # what the first format did not have
    (tmp_path / "run" / "run.json").write_text(json.dumps(earlier))
    with pytest.raises(ValueError, match=r"holds a run of format 1, and this version of datafree writes format 2"):
        run(tmp_path / "run", rounds=2)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.txt").write_text("meow")
    with pytest.raises(ValueError, match="do not belong to a run"):
        run(tmp_path / "photos")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text('{"identity": ')
    with pytest.raises(ValueError, match=r"run\.json is not the record of a run"):
        run(tmp_path / "bad")
    assert sorted(p.name for p in (tmp_path / "photos").iterdir()) == ["cat.txt"]


def test_two_processes_cannot_write_one_folder(tmp_path: Path) -> None:
    with folder.RunDir(tmp_path / "run", {}), pytest.raises(ValueError, match="Another process"):
        folder.RunDir(tmp_path / "run", {})


def test_a_finished_run_gives_its_student_back_without_another_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path / "run")
    monkeypatch.setattr(loop, "run", None)
    assert run(tmp_path / "run") == first


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fill(temporary: Path) -> None:
        temporary.write_text("half")
        with Path("/dev/full").open("w") as full:
            full.write("x" * 10_000)

    with pytest.raises(OSError, match=r"Writing .*file failed .*No space left on device; .* MiB are free"):
        replace_atomically(path, fill)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_run_goes_on_after_the_disk_was_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unbroken = run(tmp_path / "unbroken")
    save, saved = torch.save, []

    def full_later(state: object, path: Path) -> None:
        save(state, path)
        saved.append(path)
        if len(saved) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder.torch, "save", full_later)
    with pytest.raises(OSError, match="The earlier file is kept; the disk is full"):
        run(tmp_path / "run")
    monkeypatch.setattr(folder.torch, "save", save)
    assert torch.load(tmp_path / "run" / "checkpoint.pt")["round"] == 2
    assert run(tmp_path / "run") == unbroken


def stopped_in(out: Path, monkeypatch: pytest.MonkeyPatch, save: int = 2) -> None:
    """A run that ends at its second checkpoint."""
    real = folder.RunDir.save

    def until(self: folder.RunDir, *arguments: Any) -> None:
        real(self, *arguments)
        if self.saves == save:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folder.RunDir, "save", until)
        with pytest.raises(KeyboardInterrupt):
            run(out)


def test_a_run_that_goes_on_with_other_threads_says_that_its_last_bits_may_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for threads in (1, 2):
        stopped_in(tmp_path / str(threads), monkeypatch)
        torch.set_num_threads(threads)
        try:
            run(tmp_path / str(threads))
        finally:
            torch.set_num_threads(1)
        assert record(tmp_path / str(threads))["status"] == "finished"
        assert ("was made with threads 1 (here 2): the result may differ" in capsys.readouterr().err) == (threads == 2)


def test_a_run_whose_teacher_changed_is_refused_and_goes_on_with_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = run(tmp_path / "unbroken")
    stopped_in(tmp_path / "run", monkeypatch)
    with pytest.raises(ValueError, match=r"holds another run: teacher is \w+ there and \w+ here. Name a new folder"):
        run(tmp_path / "run", teacher=network(2))
    assert run(tmp_path / "run") == unbroken


FLAGS = "--recipe dfad-digits --student small-cnn-quarter --plan.rounds 60 --plan.save-every 3 --plan.log-every 1 --device cpu"


def line(teacher: Path, out: Path, *more: str) -> list[str]:
    flags = [*FLAGS.split(), "--method.latent.width", "8", "--method.batch", "16", "--plan.batch", "16"]
    return ["distill", str(teacher), "--out", str(out), *flags, *more]


def begin(teacher: Path, out: Path, *more: str) -> BaseProcess:
    return start_command(*line(teacher, out, *more), streams=streams(out))


def streams(out: Path) -> Path:
    """What the last process said that worked in that folder."""
    return out.with_name(f"{out.name}.txt")


def wait_for_round(out: Path, round_: int) -> None:
    for _ in range(2000):
        log = out / "log.csv"
        if log.exists() and len(log.read_text().splitlines()) > round_:
            return
        time.sleep(0.01)
    raise AssertionError(f"the run never came to round {round_}")


def finish(teacher: Path, out: Path, *more: str) -> bytes:
    assert status(begin(teacher, out, *more)) == 0, streams(out).read_text()
    return (out / "student.safetensors").read_bytes()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The student of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("unbroken")
    network(1).save(folder / "teacher.safetensors")
    return finish(folder / "teacher.safetensors", folder / "run")


def test_kill_9_three_times_gives_the_unbroken_student(
    tmp_path: Path, teacher_file: Path, images: Path, unbroken: bytes
) -> None:
    watched = ("--eval", str(images), "--plan.eval-every", "5")  # the unbroken run was not: looking changes nothing
    for round_ in (2, 17, 38):
        process = begin(teacher_file, tmp_path / "killed", *watched)
        wait_for_round(tmp_path / "killed", round_)
        process.kill()
        assert status(process) == -signal.SIGKILL
        assert not (tmp_path / "killed" / "student.safetensors").exists()
    assert finish(teacher_file, tmp_path / "killed", *watched) == unbroken


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_saves_itself_says_so_and_resumes(
    number: int, tmp_path: Path, teacher_file: Path, unbroken: bytes
) -> None:
    process = begin(teacher_file, tmp_path / "run")
    wait_for_round(tmp_path / "run", 7)
    assert process.pid
    os.kill(process.pid, number)
    assert status(process) == 130
    errors = streams(tmp_path / "run").read_text()
    last = errors.strip().splitlines()[-1]
    assert "Stopped after round" in last
    assert "the same command resumes" in last
    assert "Traceback" not in errors
    stopped = int(last.split("round ")[1].split()[0])
    assert torch.load(tmp_path / "run" / "checkpoint.pt")["round"] == stopped
    assert finish(teacher_file, tmp_path / "run") == unbroken


def test_a_second_ctrl_c_stops_a_run_at_once_and_what_was_saved_stays(
    tmp_path: Path, teacher_file: Path, unbroken: bytes
) -> None:
    """The first would wait for the end of the round, which never comes here."""
    process = start(in_a_round_without_end, teacher_file, tmp_path / "run", streams=streams(tmp_path / "run"))
    wait_for_round(tmp_path / "run", 7)
    assert process.pid
    for _ in range(100):
        os.kill(process.pid, signal.SIGINT)
        if status(process, 0.2) is not None:
            break
    assert status(process) == 130
    errors = streams(tmp_path / "run").read_text()
    assert errors.strip().splitlines()[-1] == "datafree: Stopped; the same command goes on from what was saved."
    assert "Traceback" not in errors
    assert torch.load(tmp_path / "run" / "checkpoint.pt")["round"] == 6
    assert finish(teacher_file, tmp_path / "run") == unbroken


def in_a_round_without_end(teacher: Path, out: Path) -> int:
    real = loop.Pool.add

    def add(self: loop.Pool, batch: loop.Batch) -> None:
        real(self, batch)
        if (out / "log.csv").exists() and len((out / "log.csv").read_text().splitlines()) > 7:
            while True:
                time.sleep(0.01)

    loop.Pool.add = add  # type: ignore[method-assign]
    return main(line(teacher, out))


def die_in_the_second_checkpoint(out: Path) -> None:
    """A run that is killed when its second checkpoint is half written."""
    save, saved = torch.save, []

    def die(state: object, path: Path) -> None:
        save(state, path)
        saved.append(path)
        if len(saved) == 2:
            path.write_bytes(path.read_bytes()[:200])
            os.kill(os.getpid(), signal.SIGKILL)

    folder.torch.save = die
    run(out)


def test_kill_9_in_the_middle_of_a_checkpoint_loses_nothing_saved(tmp_path: Path) -> None:
    unbroken = run(tmp_path / "unbroken")
    process = start(die_in_the_second_checkpoint, tmp_path / "run", streams=streams(tmp_path / "run"))
    assert status(process) == -signal.SIGKILL
    assert (tmp_path / "run" / ".checkpoint.pt.writing").stat().st_size == 200
    assert run(tmp_path / "run") == unbroken


def test_a_reader_that_leaves_early_is_no_news(teacher_file: Path) -> None:
    # A process of its own, not forked: how the interpreter ends, which flushes what it still has to say, is in question.
    command = f"{sys.executable} -m datafree.cli inspect {teacher_file} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("141", "")
