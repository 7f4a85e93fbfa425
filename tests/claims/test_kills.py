"""A kill at any moment leaves what the same line takes up: the same files, nothing missing, nothing extra, nothing refused."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import reliability_kills
import torch
from helpers import FORKS, TINY, network, start, start_command, status

from datafree.cli import main
from datafree.core.runtime import Runtime
from datafree.engine import folder
from datafree.engine.folder import RunDir
from datafree.engine.interrupts import STOPPED, terminable

# Every n-th operation of these lines is a kill, so that all takes seconds.
STRIDES = {"short": 1, "teach-twice": 1, "set-dafl": 4, "export-imagefolder": 9, "export-webdataset": 1, "export-npz": 1}
STRIDES |= {"pack": 1, "inspect": 1}


@pytest.fixture(scope="module")
def inputs() -> Iterator[Path]:
    with reliability_kills.inputs(STRIDES) as folder:
        yield folder


@pytest.mark.parametrize("name", STRIDES)
def test_a_kill_at_any_file_operation_changes_nothing(name: str, inputs: Path) -> None:
    line = reliability_kills.lines([name])[name]
    found = reliability_kills.tried([(name, line, inputs, 1, STRIDES[name], 0)], 1, FORKS)
    assert found.at_operations >= 3
    assert (found.refused, found.differing, found.leftovers) == ([], [], [])


def test_a_kill_at_every_operation_of_every_line_changes_nothing(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--every-kill"):
        pytest.skip("an hour; only with --every-kill")
    found = reliability_kills.kills(random=100)
    assert found.pop("at_operations") >= 1000
    assert found == {"random": 100, "differing": 0, "refused": 0, "leftovers": 0}


def lines(teacher: Path, images: Path, out: Path, rounds: int = 9, every: int = 1) -> dict[str, list[str]]:
    """A line of each verb that keeps a folder while it works, with `out` for its output."""
    plan = (
        f"--plan.rounds {rounds} --plan.steps 1 --plan.batch 8 --plan.log-every {every} --plan.save-every {every} --device cpu"
    )
    return {
        "distill": f"distill {teacher} --student {TINY} --recipe dfad-digits --method.batch 8 {plan} --out {out}".split(),
        "teach": f"teach {images} --arch {TINY} --epochs 9 --device cpu --out {out}".split(),
        "synthesize": f"synthesize {teacher} --recipe dafl-mnist-light --n 9 --batch 1 --device cpu --out {out}".split(),
    }


@pytest.mark.parametrize("moment", [(Runtime, "drain"), (RunDir, "save")], ids=["before-the-log", "before-the-save"])
@pytest.mark.parametrize("verb", ["distill", "teach", "synthesize"])
def test_a_folder_that_was_deleted_does_not_come_back(
    verb: str,
    moment: tuple[type, str],
    tmp_path: Path,
    teacher_file: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, (owner, name) = tmp_path / "out", moment
    path = out if verb == "distill" else tmp_path / "out.parts"
    real = getattr(owner, name)

    def deleting(*arguments: object) -> object:
        shutil.rmtree(path, ignore_errors=True)
        return real(*arguments)

    monkeypatch.setattr(owner, name, deleting)
    assert main(lines(teacher_file, images, out)[verb]) == 1
    assert "deleted" in capsys.readouterr().err.splitlines()[-1]
    assert not path.exists()
    assert not out.exists()


def test_a_folder_that_was_deleted_is_not_brought_back_by_sigterm(tmp_path: Path, teacher_file: Path, images: Path) -> None:
    out = tmp_path / "out"
    line = lines(teacher_file, images, out, rounds=90_000, every=90_000)["distill"]
    process = start_command(*line, streams=tmp_path / "streams.txt")
    while not (out / "run.json").exists():
        assert process.is_alive(), (tmp_path / "streams.txt").read_text()
        time.sleep(0.01)
    time.sleep(0.2)  # into its rounds
    shutil.rmtree(out)
    process.terminate()
    assert status(process) in (1, 143)  # the latter if it was not yet in its rounds
    assert (tmp_path / "streams.txt").read_text().splitlines()[-1].startswith("datafree: ")
    assert "Traceback" not in (tmp_path / "streams.txt").read_text()
    assert not out.exists()


@pytest.mark.parametrize(("number", "ended"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("verb", ["teach", "pack"])
def test_every_verb_ends_in_a_sentence_where_it_could_not_save(
    verb: str, number: int, ended: int, tmp_path: Path, images: Path
) -> None:
    """Before the loop of `teach`, and in a verb without a loop, each in the middle of a write."""
    streams = tmp_path / "streams.txt"
    torch.save(network(1).module.state_dict(), tmp_path / "weights.pt")
    pack = f"pack {tmp_path / 'weights.pt'} --arch {TINY} --inputs 1x8x8 --mean 0.3 --std 0.4 --classes 10"
    line = f"teach {images} --arch {TINY} --epochs 2 --device cpu" if verb == "teach" else pack
    process = start(in_a_write_without_end, f"{line} --out {tmp_path / 'out'}", tmp_path / "begun", streams=streams)
    while not (tmp_path / "begun").exists():
        assert process.is_alive(), streams.read_text()
        time.sleep(0.01)
    assert process.pid
    os.kill(process.pid, number)
    assert status(process) == ended
    assert streams.read_text().splitlines()[-1] == f"datafree: {STOPPED}"
    assert "Traceback" not in streams.read_text()
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".writing")]
    assert main(f"{line} --out {tmp_path / 'out'}".split()) == 0


def in_a_write_without_end(line: str, begun: Path) -> int:
    def sync(file: int) -> None:
        begun.touch()
        while True:
            time.sleep(0.01)

    os.fsync = sync
    return main(line.split())


def test_a_signal_while_a_module_is_loaded_is_not_lost(tmp_path: Path) -> None:
    """Extensions swallow what is raised while they load, so that a process once went on after SIGTERM."""
    (tmp_path / "slow.py").write_text(
        "try:\n    import signal\n    signal.raise_signal(signal.SIGTERM)\nexcept BaseException: pass"
    )
    process = start(loading_slow, tmp_path, streams=tmp_path / "streams.txt")
    assert status(process) == 143
    assert (tmp_path / "streams.txt").read_text() == f"datafree: {STOPPED}\n"


def loading_slow(folder: Path) -> int:
    sys.path.insert(0, str(folder))
    with terminable():
        __import__("slow")
    return 0


def test_a_folder_that_was_replaced_by_another_process_is_left_alone(tmp_path: Path) -> None:
    with RunDir(tmp_path / "run", {"seed": 0}) as first:
        first.write({})
        shutil.rmtree(tmp_path / "run")
        with RunDir(tmp_path / "run", {"seed": 0}) as second:
            second.write({})
            with pytest.raises(OSError, match="was deleted while this process was writing it"):
                first.save(1, {}, {})
            assert second.restore({}) == (0, {})


def test_work_that_saves_by_the_clock_loses_a_minute_at_most_and_little_where_saving_is_cheap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(folder.time, "monotonic", lambda: now[0])
    with RunDir(tmp_path / "run", {}) as run:
        now[0] += 0.1
        assert run.due, "nothing has been saved"
        for took, soon in ((0.1, 2.0), (2.0, 40.0), (9.0, 60.0)):
            monkeypatch.setattr(folder.torch, "save", lambda state, path, took=took: _save(path, now, took))
            run.save(1, {}, {})
            now[0] += soon - 0.01
            assert not run.due
            now[0] += 0.02
            assert run.due


def _save(path: Path, now: list[float], took: float) -> None:
    path.touch()
    now[0] += took


def test_a_finished_run_repairs_its_page_and_removes_its_leftovers(
    tmp_path: Path, teacher_file: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What kills of earlier versions left, which nothing writes again."""
    for verb, line in lines(teacher_file, images, tmp_path / "out").items():
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        (tmp_path / "out").unlink(missing_ok=True) if verb == "synthesize" else None
        assert main(line) == 0
        if verb == "distill":
            whole = sorted((tmp_path / "out").rglob("*"))
            (tmp_path / "out" / "report.html").unlink()
            (tmp_path / "out" / "images" / ".round-000009.png.writing").touch()
            (tmp_path / "out" / ".student.safetensors.writing").touch()
            assert main(line) == 0
            assert sorted((tmp_path / "out").rglob("*")) == whole
            continue
        before = (tmp_path / "out").stat().st_mtime_ns
        (tmp_path / "out.parts").mkdir()
        (tmp_path / "out.parts" / ".lock").touch()
        (tmp_path / ".out.writing").touch()
        assert main(line) == 0
        assert (tmp_path / "out").stat().st_mtime_ns == before, "it was made again"
        assert not (tmp_path / "out.parts").exists()
        assert not (tmp_path / ".out.writing").exists()
