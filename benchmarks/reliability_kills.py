"""Kills of every verb, at random moments and at every file operation: the same line again must give the same files.

    python benchmarks/reliability_kills.py --random 400 --jobs 2

A line runs in a forked process, which counts its file operations and kills itself at the n-th, or is killed from outside. Then
the same line runs to its end. Its files must be those of an unbroken run: the same bytes in all that holds no times, nothing
missing, nothing extra.
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import random as randomness
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, NoReturn

import torch
from fingerprints import BN, PLAIN, RUNS, SEGMENTER, data

from datafree.api import demo, reproduce
from datafree.cli import main
from datafree.engine.log import RunLog
from datafree.networks.network import load
from datafree.recipes import RECIPES
from datafree.recipes.experiments import EXPERIMENTS, Experiment, Published

SET, WEIGHTS = "set.safetensors", "weights.pt"
TINY = "--plan.rounds 2 --plan.steps 1 --plan.batch 8 --plan.log-every 1 --plan.save-every 1 --plan.eval-every 0"
OTHERS = {
    "teach-twice": "teach digits.npz --arch small-cnn-quarter --epochs 3 --batch 64 --out taught.safetensors",
    "set-pictures": RUNS["set-dda"].replace("set-dda.safetensors", "pictures.safetensors"),
    "short": f"distill {BN} --student small-cnn-quarter --recipe stored-mnist --method.path digits.npz {TINY}",
    "watched": f"distill {BN} --student small-cnn-quarter --recipe dfad-digits {TINY} --method.batch 8 --eval digits.npz "
    "--plan.grid-every 1",
    "export-imagefolder": f"export-set {SET} --to imagefolder --out images",
    "export-webdataset": f"export-set {SET} --to webdataset --out tars",
    "export-npz": f"export-set {SET} --to npz --out exported.npz",
    "pack": f"pack {WEIGHTS} --arch small-cnn-half --inputs 1x8x8 --mean 0.3 --std 0.4 --classes 10 --out packed.safetensors",
    "inspect": f"inspect {SET}",
    "reproduce": "reproduce tiny --data . --runs runs --seeds 1 --device cpu",
    "demo": "demo --out demo",
}
# Those of several processes are killed in the tests; what was stopped once already is not of interest here.
LINES = {name: line for name, line in RUNS.items() if not name.startswith(("two-", "resumed-"))} | OTHERS


def lines(only: Iterable[str] = LINES) -> dict[str, str]:
    """The lines to kill, by name: every method and verb, all on the CPU, with their output beside the inputs."""
    found = {}
    for name in only:
        line = LINES[name].replace("--method.diffusion.updates 60", "--method.diffusion.updates 4")
        if line.startswith("distill"):
            line += f" --out {name}"
        if line.startswith("teach"):
            line = re.sub(r"--out \S+", "--out taught.safetensors", line)
        if line.startswith(("distill", "teach", "synthesize")):
            line += " --device cpu"
        found[name] = line
    return found


@dataclass
class Found:
    """What the kills of some lines showed."""

    random: int = 0  # kills at random moments
    at_operations: int = 0  # kills at a file operation
    differing: list[str] = field(default_factory=list)  # files that are missing or differ in a bit
    refused: list[str] = field(default_factory=list)  # lines that did not run to their end
    leftovers: list[str] = field(default_factory=list)  # files that an unbroken run does not leave

    def add(self, other: "Found") -> None:
        self.random += other.random
        self.at_operations += other.at_operations
        self.differing += other.differing
        self.refused += other.refused
        self.leftovers += other.leftovers

    def counts(self) -> dict[str, int]:
        """The numbers, by name."""
        lists = {"differing": self.differing, "refused": self.refused, "leftovers": self.leftovers}
        return {"random": self.random, "at_operations": self.at_operations} | {name: len(of) for name, of in lists.items()}


class Operations:
    """Counts the file operations of this process in its folder, and kills it before number `at`."""

    def __init__(self, at: int | None):
        self.at, self.count, self.folder = at, 0, f"{Path.cwd()}{os.sep}"
        sys.addaudithook(self._hear)
        write, write_bytes = RunLog.write, Path.write_bytes

        def flush(file: int) -> None:
            # Killed in the middle of the write. It need not reach the disk, since the machine goes on.
            self.point(lambda: os.ftruncate(file, os.fstat(file).st_size // 2))

        def log(log: RunLog, *values: Any) -> None:
            write(log, *values)
            self.point(lambda: os.truncate(log.path, log.path.stat().st_size - 7))  # killed in the middle of the line

        def write_whole(path: Path, data: bytes) -> int:
            written = write_bytes(path, data)
            self.point(lambda: os.truncate(path, len(data) // 2))
            return written

        os.fsync, RunLog.write, Path.write_bytes = flush, log, write_whole  # type: ignore[method-assign,assignment]

    def point(self, harm: Callable[[], None] = lambda: None) -> None:
        """One operation. A kill here does `harm` first."""
        self.count += 1
        if self.count == self.at:
            harm()
            os.kill(os.getpid(), signal.SIGKILL)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        if isinstance(arguments[0], str | bytes | os.PathLike):
            path = str(Path(os.fsdecode(arguments[0])).absolute())  # of a name within a folder, as rmtree gives it, too
            if path.startswith(self.folder):  # not those of Python itself, nor of temporary folders
                self.point()


class Ground:
    """A folder in which one line after the other runs; `inputs` are linked into it."""

    def __init__(self, inputs: Path, folder: Path):
        self.inputs, self.folder, self.output = inputs, folder, folder.with_name(f"{folder.name}.txt")

    def clear(self) -> None:
        """Delete everything but the inputs."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for path in self.inputs.iterdir():
            (self.folder / path.name).symlink_to(path)

    def start(self, line: str, at: int | None = None) -> tuple[int, int]:
        """A process that runs `line`, killed at operation `at`: its id, and a pipe with its number of operations."""
        reader, writer = os.pipe()
        process = os.fork()
        if not process:
            os.close(reader)
            self._become(line, at, writer)
        os.close(writer)
        return process, reader

    def finish(self, process: int, reader: int) -> tuple[int, int]:
        """Exit status of a process, minus the signal's number if killed, and its number of operations."""
        with os.fdopen(reader) as pipe:
            count = pipe.read()
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), int(count or 0)

    def run(self, line: str, at: int | None = None) -> tuple[int, int]:
        """Run `line`: exit status, and number of operations."""
        return self.finish(*self.start(line, at))

    def said(self) -> str:
        """The last line that the last process printed."""
        return next(iter(self.output.read_text(errors="replace").strip().splitlines()[-1:]), "")

    def files(self) -> dict[str, str]:
        """Hashes of all files and folders except the inputs, without the times in them, by name."""
        paths = [path for path in self.folder.rglob("*") if not path.is_symlink()]
        return {str(path.relative_to(self.folder)): "" if path.is_dir() else timeless(path) for path in paths}

    def _become(self, line: str, at: int | None, writer: int) -> NoReturn:
        status = 1
        try:
            output = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for standard in (1, 2):
                os.dup2(output, standard)
            os.chdir(self.folder)
            torch.set_num_threads(1)
            _shrink()
            sys.argv = ["datafree", *shlex.split(line)]
            operations = Operations(at)
            status = main(sys.argv[1:])
            sys.stdout.flush()
            sys.stderr.flush()
            os.write(writer, str(operations.count).encode())
        finally:
            os._exit(status)


def _shrink() -> None:
    """An experiment and a demo of seconds."""

    def in_this_process(line: str) -> None:
        if main(shlex.split(line)):
            raise ValueError(f"datafree {line} failed.")

    reproduce._run_command = in_this_process
    EXPERIMENTS["tiny"] = Experiment(
        recipe="dfad-digits",
        task="tiny",
        data="tiny",
        teacher="small-cnn-quarter",
        student="small-cnn-quarter",
        teach="--epochs 1 --batch 64",
        paper=Published(None, "best epoch", "none"),
        distil=f"{TINY} --method.batch 8",
        baseline=TINY,
        noise_images=32,
    )
    demo.TRAINING = demo.TRAINING.replaced(epochs=1)
    demo.NOISE_IMAGES = 32
    demo.STUDENT_ON_NOISE = demo.STUDENT_ON_NOISE.replaced(rounds=2, steps=1, batch=8, save_every=1)
    RECIPES["dfad-digits"] = RECIPES["dfad-digits"].dry_run()


def timeless(path: Path) -> str:
    """SHA-256 of a file without the times that it holds."""
    content: Any = path.read_bytes()
    if path.suffix == ".json":
        content = repr(_untimed(json.loads(content)))
    elif path.suffix == ".pt":
        content = repr(_untimed(torch.load(path, weights_only=True)))
    elif path.suffix == ".csv":
        rows = [row.split(",") for row in content.decode().splitlines()]
        kept = [i for i, name in enumerate(rows[0]) if not name.endswith("_s")]
        content = repr([[row[i] for i in kept] for row in rows])
    elif path.suffix == ".html":  # the page of the run shows times among its numbers
        content = re.sub(r"[\d.,:]+|seconds|minutes|[smh]\b", "", content.decode())
    return hashlib.sha256(content if isinstance(content, bytes) else content.encode()).hexdigest()


def _untimed(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (
            list(value.shape),
            str(value.dtype),
            hashlib.sha256(value.contiguous().flatten().view(torch.uint8).numpy().tobytes()).hexdigest(),
        )
    if isinstance(value, dict):
        # Work that saves by the clock does so now more often, now less; the reasons of auto are times and free memory.
        timed = ("seconds", "phases", "peak_mb", "saves", "auto")
        return {key: _untimed(of) for key, of in value.items() if key not in timed and not str(key).endswith("_s")}
    return [_untimed(each) for each in value] if isinstance(value, list | tuple) else value


def judge(ground: Ground, name: str, line: str, whole: dict[str, str], where: str, found: Found) -> None:
    """Run the line to its end, and add to `found` what is not as in an unbroken run."""
    if ground.run(line)[0]:
        found.refused.append(f"{name} after {where}: {ground.said()}")
        return
    files = ground.files()
    found.differing += [f"{name} after {where}: {path}" for path in whole if files.get(path) != whole[path]]
    found.leftovers += [f"{name} after {where}: {path}" for path in files if path not in whole]


def killed(task: tuple[str, str, Path, int, int, int]) -> Found:
    """Kill one line at every `stride`-th operation, from `first`, and `random` times at random moments."""
    name, line, inputs, first, stride, random = task
    found = Found()
    with tempfile.TemporaryDirectory() as scratch:
        ground = Ground(inputs, Path(scratch).resolve() / "ground")
        ground.clear()
        began = time.monotonic()
        status, operations = ground.run(line)
        took, whole = time.monotonic() - began, ground.files()
        if status or not operations:
            raise RuntimeError(f"{name} does not run: {ground.said()}")
        for at in range(first, operations + 1, stride) if stride else ():
            ground.clear()
            ended = ground.run(line, at)[0]
            assert ended == -signal.SIGKILL, f"{name} was not killed at operation {at}: {ended} {ground.said()}"
            found.at_operations += 1
            judge(ground, name, line, whole, f"operation {at} of {operations}", found)
        moments = randomness.Random(name)
        while found.random < random:
            ground.clear()
            for _ in range(min(random - found.random, moments.choice((1, 1, 2, 3)))):
                process, reader = ground.start(line)
                time.sleep(moments.uniform(0, 1.1 * took))
                os.kill(process, signal.SIGKILL)
                ground.finish(process, reader)
                found.random += 1
            judge(ground, name, line, whole, "a random moment", found)
    return found


@contextlib.contextmanager
def inputs(only: Iterable[str] = LINES) -> Iterator[Path]:
    """A folder with the data, teachers, set and weights that the lines `only` read."""
    with tempfile.TemporaryDirectory() as scratch, forkserver().Pool(1) as pool:
        folder = Path(scratch).resolve() / "inputs"
        pool.apply(_make, (folder, list(only)))  # in a process without threads, since it forks
        yield folder


def _make(folder: Path, only: list[str]) -> None:
    ground = Ground(folder.parent, folder)
    folder.mkdir()
    os.chdir(folder)
    data()
    for split in ("train", "test"):
        shutil.copy(folder / "digits.npz", folder / f"tiny_{split}.npz")
    read = " ".join(lines(only).values())
    for name, file in (("teach", BN), ("teach-plain", PLAIN), ("teach-segmenter", SEGMENTER)):
        if file in (BN, *read.split()):
            assert ground.run(f"{RUNS[name]} --device cpu")[0] == 0, ground.said()
    line = f"synthesize {BN} --recipe dafl-mnist-light --n 12 --batch 4 --out {SET} --device cpu"
    assert ground.run(line)[0] == 0, ground.said()
    torch.save(load(folder / BN).module.state_dict(), folder / WEIGHTS)


def forkserver() -> BaseContext:
    """Starts processes that have loaded torch and started no thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reliability_kills", "torch._dynamo", "datafree.cli.distill", "datafree.cli.synthesize"])
    return context


def tried(tasks: list[tuple[str, str, Path, int, int, int]], processes: int, context: BaseContext) -> Found:
    """What `killed` finds in `tasks`, in processes of their own: one that has started threads must not fork."""
    found = Found()
    with context.Pool(processes, maxtasksperchild=1) as pool:
        for each in pool.imap_unordered(killed, tasks, chunksize=1):
            found.add(each)
    return found


def kills(random: int, jobs: int = 1, only: Iterable[str] = LINES, stride: int = 1) -> dict[str, int]:
    """Kill every line of `only` at every `stride`-th file operation (0: at none), and in all `random` times at random moments.

    Returns the numbers of kills, `random` and `at_operations`, and of what they broke: `differing`, `refused`, `leftovers`.
    """
    found = lines(only)
    each = [random // len(found) + (i < random % len(found)) for i in range(len(found))]
    with inputs(found) as there:
        tasks = [(name, line, there, 1, stride, each[i]) for i, (name, line) in enumerate(found.items())]
        result = tried(tasks, jobs, forkserver())
    for text in (*result.differing, *result.refused, *result.leftovers):
        print(text, file=sys.stderr)
    return result.counts()


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(LINES))
    given = parser.parse_args()
    print(json.dumps(kills(given.random, given.jobs, given.only, given.stride), indent=2))
