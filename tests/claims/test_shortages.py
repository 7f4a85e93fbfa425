"""A full disk, a read-only folder, few files, little memory: one sentence, and nothing that is finished is lost."""

import contextlib
import ctypes
import errno
import io
import json
import os
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TINY, both, network, start, status, stored_images

import datafree
from datafree.cli import main
from datafree.core.shortages import explain_shortage, is_out_of_memory
from datafree.engine.log import RunLog

FILL = "--recipe sttss-mnist --n 20 --batch 10 --method.inversion.steps 1 --device cpu"
DFAD = "--recipe dfad-digits --method.latent.width 8 --plan.steps 1 --device cpu"
PLAN = "--method.batch 8 --plan.batch 8 --plan.rounds 2 --plan.save-every 1 --plan.log-every 1 --plan.grid-every 2"
VERBS = {
    "distill": f"distill DATA/teacher.safetensors --student {TINY} {DFAD} {PLAN} --out OUT/run",
    "teach": f"teach DATA/images.npz --arch {TINY} --epochs 2 --device cpu --out OUT/teacher.safetensors",
    "synthesize": f"synthesize DATA/teacher.safetensors {FILL} --out OUT/set.safetensors",
    "pack": f"pack DATA/weights.pt --arch {TINY} --inputs 1x8x8 --mean .3 --std .4 --classes 10 --out OUT/packed.safetensors",
    "imagefolder": "export-set DATA/set.safetensors --to imagefolder --out OUT/set",
    "webdataset": "export-set DATA/set.safetensors --to webdataset --out OUT/set",
    "npz": "export-set DATA/set.safetensors --to npz --out OUT/set.npz",
}
READERS = {
    "evaluate": "evaluate DATA/teacher.safetensors --data DATA/images.npz --device cpu",
    "inspect": "inspect DATA/set.safetensors",
}
LINES = {**VERBS, **READERS}
TIMED = ("run.json", "log.csv", "checkpoint.pt", "report.html")  # files that hold times


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the verbs read."""
    folder = tmp_path_factory.mktemp("data")
    network(1).save(folder / "teacher.safetensors")
    torch.save(network(1).module.state_dict(), folder / "weights.pt")
    stored_images(folder)
    assert called(VERBS["synthesize"], folder, folder)[0] == 0
    return folder


def called(line: str, data: Path, out: Path) -> tuple[int, str]:
    """Exit status and error output of one command."""
    errors = io.StringIO()
    words = [word.replace("DATA", str(data)).replace("OUT", str(out)) for word in line.split()]
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        return main(words), errors.getvalue()


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): b"" if path.name in TIMED else path.read_bytes() for path in files}


class Full:
    """Full from the n-th time on that a file below `folder` is opened to be written, a folder made, one renamed."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.free = 0  # places that still succeed
        sys.addaudithook(self)  # for the whole life of the process

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder or event not in ("open", "os.mkdir", "os.rename"):
            return
        path = str(arguments[0])
        written = not os.path.exists(path) or not os.path.isdir(path)  # noqa: PTH110, PTH112 - the hook is called by a Path too
        if event == "open":
            written = written and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if path.startswith(str(self.folder)) and (written or event == "os.rename"):
            self.free -= 1
            if self.free < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def fill_the_disk(line: str, data: Path, folder: Path) -> None:
    """Run `line` with the disk full from its first, second, ... write on, and each time again with the disk free."""
    os.fsync = lambda file: None  # which here is most of the time
    disk, whole = Full(), folder / "whole"
    assert called(line, data, whole)[0] == 0
    seen = []
    for place in range(200):
        out = folder / f"{place:03}"
        out.mkdir()
        disk.folder, disk.free = out, place
        code, errors = called(line, data, out)
        disk.folder = None
        if disk.free >= 0:  # there are no more places
            break
        seen.append((code, errors.splitlines()[-1]))
        again, errors = called(line, data, out)
        assert again == 0, errors
        assert content(out) == content(whole), place
    (folder / "seen.json").write_text(json.dumps(seen))


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_at_any_place_ends_in_a_sentence_and_the_same_line_then_finishes(
    verb: str, data: Path, tmp_path: Path
) -> None:
    process = start(fill_the_disk, VERBS[verb], data, tmp_path, streams=tmp_path / "streams.txt")
    assert status(process) == 0, (tmp_path / "streams.txt").read_text()
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert len(seen) >= 2
    for code, sentence in seen:
        assert code == 1
        assert sentence.startswith("datafree: ")
        assert "the disk is full; free some space" in sentence
        assert sentence.count("then run the same command again") == 1


def test_a_disk_that_is_full_at_a_line_of_the_log_ends_in_a_sentence(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert called(VERBS["distill"], data, tmp_path / "whole")[0] == 0
    real = RunLog._rewrite

    def onto_a_full_disk(self: RunLog, *arguments: Any) -> None:
        real(self, *arguments)
        assert self._file
        self._file.close()
        self._file = Path("/dev/full").open("a", encoding="utf-8", newline="")  # noqa: SIM115 - the log closes it

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "_rewrite", onto_a_full_disk)
        code, errors = called(VERBS["distill"], data, tmp_path / "run")
    assert (code, "Traceback" in errors) == (1, False)
    assert "the disk is full; free some space" in errors.splitlines()[-1]
    assert called(VERBS["distill"], data, tmp_path / "run")[0] == 0
    assert content(tmp_path / "run") == content(tmp_path / "whole")


def limit(kind: int, most: int) -> None:
    resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))


def few_files(free: int) -> None:
    next_one = os.dup(2)
    os.close(next_one)
    limit(resource.RLIMIT_NOFILE, next_one + free)


def small_files(size: int) -> None:
    limit(resource.RLIMIT_FSIZE, size)


def little_memory(more: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit(resource.RLIMIT_AS, pages * resource.getpagesize() + more * 2**20)


def read_only(_: int) -> None:
    """Give up what lets root write to folders that are read-only."""
    if os.geteuid() == 0:
        header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None).capset(header, none) == 0


def short(shortage: Callable[[int], None], size: int, data: Path, folder: Path) -> None:
    """What each command says in a process that lacks something; then the same line with nothing lacking."""
    os.fsync = lambda file: None
    for name, line in LINES.items():  # whatever a command loads is loaded by this
        assert called(line, data, folder / "whole" / name)[0] == 0, name
        (folder / name).mkdir(mode=0o555 if shortage is read_only else 0o755)
    shortage(size)
    found = {name: called(line, data, folder / name) for name, line in LINES.items()}
    for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_AS):
        limit(kind, resource.getrlimit(kind)[1])
    for name, line in LINES.items():
        (folder / name).chmod(0o755)
        if found[name][0]:
            again, errors = called(line, data, folder / name)
            assert again == 0, (name, errors)
        assert content(folder / name) == content(folder / "whole" / name), name
    (folder / "found.json").write_text(json.dumps(found))


@pytest.mark.skipif(sys.platform != "linux", reason="limits and privileges are those of Linux")
@pytest.mark.parametrize(
    ("shortage", "size", "least", "sentence"),
    [
        (read_only, 0, len(VERBS), "you have no permission for that; change it or name another folder"),
        (few_files, 0, len(LINES), "this process may not open more files; raise the limit"),
        (few_files, 1, 1, "this process may not open more files; raise the limit"),
        (few_files, 2, 1, "this process may not open more files; raise the limit"),
        (small_files, 600, len(VERBS), "files may not grow that large here; raise the limit (ulimit -f)"),
        (little_memory, 0, 2, "Memory ran out ("),
    ],
)
def test_what_is_short_is_named_by_the_commands_that_need_it_and_the_same_line_then_finishes(
    shortage: Callable[[int], None], size: int, least: int, sentence: str, data: Path, tmp_path: Path
) -> None:
    process = start(short, shortage, size, data, tmp_path, streams=tmp_path / "streams.txt")
    assert status(process) == 0, (tmp_path / "streams.txt").read_text()
    found = json.loads((tmp_path / "found.json").read_text())
    failed = {name: errors for name, (code, errors) in found.items() if code}
    assert len(failed) >= least
    for name, errors in failed.items():
        assert "Traceback" not in errors
        assert sentence in errors.splitlines()[-1], name


def ask_for_much(data: Path, folder: Path) -> int:
    little_memory(more=1024)
    code, errors = called(VERBS["distill"].replace("--method.batch 8", "--method.batch 4000000"), data, folder)
    sys.stderr.write(errors)
    return code


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is that of Linux")
def test_a_run_without_enough_memory_says_how_much_was_asked_for_and_what_to_lower(data: Path, tmp_path: Path) -> None:
    assert status(start(ask_for_much, data, tmp_path, streams=tmp_path / "streams.txt")) == 1
    last = (tmp_path / "streams.txt").read_text().splitlines()[-1]
    assert re.search(r"^datafree: Memory ran out \([\d,.]+ MiB more were asked for\)", last)
    assert "lower --plan.micro-batch" in last


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has 1 GiB"), "20.00 MiB more"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4194304 bytes."), "4.0 MiB more"),
        (MemoryError(), "how much was asked for is not known"),
        (RuntimeError("could not create a primitive"), "how much was asked for is not known"),
        (RuntimeError("can't start new thread"), "No thread could be started"),
    ],
)
def test_a_lack_of_memory_is_recognised_however_it_is_reported(error: Exception, seen: str) -> None:
    assert seen in str(explain_shortage(error, "--batch"))


@pytest.mark.parametrize(("verb", "smaller"), [("inspect", "--inputs"), ("pack", "--inputs"), ("evaluate", "fewer images")])
def test_a_verb_that_keeps_nothing_asks_for_smaller_inputs(
    verb: str, smaller: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(datafree, verb, fails)
    more = {"inspect": "", "pack": "--arch x --out y", "evaluate": "--data z"}[verb]
    assert main([verb, "file", *more.split()]) == 1
    said = capsys.readouterr().err
    assert smaller in said
    assert "folder" not in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("could not create a primitive descriptor"), RecursionError(), KeyError("x")])
def test_other_errors_are_not_taken_for_a_shortage(error: Exception) -> None:
    assert explain_shortage(error, "--batch") is None
    assert not is_out_of_memory(error)


class FullInOne:
    """A run of two processes, the second of which cannot write its checkpoint; what either prints goes to a file."""

    def __init__(self, data: Path):
        self.data = data

    def __call__(self, out: Path) -> None:
        save = torch.save
        if os.environ["RANK"] == "1":
            torch.save = lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        code, errors = called(VERBS["distill"], self.data, out)
        torch.save = save
        (out / f"{os.environ['RANK']}.json").write_text(json.dumps((code, errors)))


def test_a_full_disk_of_one_process_ends_both_in_a_sentence(data: Path, tmp_path: Path) -> None:
    both(FullInOne(data), tmp_path / "out")
    for rank, sentence in ((0, "Another process of this run ended"), (1, "the disk is full; free some space")):
        code, errors = json.loads((tmp_path / "out" / f"{rank}.json").read_text())
        assert code == 1
        assert "Traceback" not in errors
        assert sentence in errors.splitlines()[-1]
