"""Spoilt inputs of every kind: each must be served, or refused in one sentence, in seconds, in little memory, without code run.

    python benchmarks/reliability_inputs.py --tried 2000 --jobs 2
    python benchmarks/reliability_inputs.py --tried 1 --seed 1234

The second line repeats one case, and shows what it is and what it said. Each line runs in a process of its own, forked from one
that has loaded torch.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import resource
import select
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from mutation_archives import CANARY
from mutations import Mutation, mutated, whole
from reliability_kills import Ground

from datafree.cli import main

SECONDS = 10.0  # wall time that an answer may take
MEMORY = 2**30  # bytes that it may take above those it begins with
SAFETY = 6 * 2**30  # bytes of address space that it may take, so that the machine lives on
FAULTS = ("tracebacks", "hangs", "over_memory", "code_run")
# Lines that may stand on standard error before the sentence.
PROGRESS = re.compile(
    r"datafree [\w.]+: \w+, loading torch|(round|batch|epoch|slice) \d+/\d+.*|(auto|teacher|student|preparation|collecting)\b.*"
    r"|budget \S+: .*|The checkpoint in .* was made with .*|(Round|Batch|Epoch) \d+: .*"
)
NO_MEMORY = ("Memory ran out", "memory ran out", "No thread could be started")
# What a foreign file must not make this process do: start a program, or ask another machine.
FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect", "socket.getaddrinfo")
PRELOAD = ("reliability_inputs", "torch._dynamo", "datafree.cli.distill", "datafree.cli.synthesize", "timm", "torchvision")


@dataclass(frozen=True)
class Answer:
    """How a process ended."""

    status: int | None  # minus a signal's number; None if it had to be killed
    out: str
    err: str
    memory: int  # most bytes it held above those that it began with
    code: bool  # whether it ran what was in a file
    seconds: float


def asked(job: Callable[[], int], folder: Path, seconds: float = SECONDS) -> Answer:
    """What `job`, run in `folder` in a fork of this process, answers: its return value, output, memory and time."""
    streams = [folder.with_name(f"{folder.name}.{name}") for name in ("out", "err")]
    began, (reader, writer) = time.monotonic(), os.pipe()
    process = os.fork()
    if not process:
        _become(job, folder, streams, writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        before = int(pipe.readline() or 0)
    handle = os.pidfd_open(process)
    late = not select.select([handle], [], [], seconds)[0]
    os.close(handle)
    if late:
        os.kill(process, signal.SIGKILL)
    _, status, used = os.wait4(process, 0)
    out, err = (stream.read_bytes().decode(errors="replace") for stream in streams)
    ended = None if late else os.waitstatus_to_exitcode(status)
    canary = (folder / CANARY).exists()
    return Answer(ended, out, err, 1024 * used.ru_maxrss - before, canary, time.monotonic() - began)


def _pages() -> tuple[int, int]:
    """Bytes of address space and of memory that this process has."""
    size, resident = map(int, Path("/proc/self/statm").read_text().split()[:2])
    return size * resource.getpagesize(), resident * resource.getpagesize()


def _become(job: Callable[[], int], folder: Path, streams: Iterable[Path], writer: int) -> NoReturn:
    status = 70
    try:
        size, resident = _pages()
        os.write(writer, f"{resident}\n".encode())
        os.close(writer)
        for standard, stream in enumerate(streams, 1):
            os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), standard)
        sys.stdout, sys.stderr = (os.fdopen(standard, "w", closefd=False) for standard in (1, 2))
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (size + SAFETY, size + SAFETY))
        torch.set_num_threads(1)
        sys.path.insert(0, "")  # as `python -m datafree.cli` has it: a foreign module may lie beside the file
        sys.addaudithook(_refuse)
        status = job()
    except BaseException:  # noqa: BLE001 - it is shown as Python shows it
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in FORBIDDEN:
        os.close(os.open(CANARY, os.O_CREAT | os.O_WRONLY))


def fault(answer: Answer) -> str | None:
    """Which of `FAULTS` an answer is; None for a good one.

    Good is success, and a failure whose last line of standard error, and no other, is a sentence. `tracebacks` are all others:
    tracebacks, signals, several sentences, warnings, and characters that paint the terminal.
    """
    lines = answer.err.splitlines()
    if answer.code:
        return "code_run"
    if answer.status is None:
        return "hangs"
    short = bool(answer.status) and any(words in answer.err for words in (*NO_MEMORY, "MemoryError", "bad_alloc"))
    if answer.memory > MEMORY or short or answer.status == -signal.SIGKILL:
        return "over_memory"
    progress = lines if answer.status == 0 else lines[:-1]
    sentence = answer.status == 0 or (bool(lines) and lines[-1].startswith("datafree: ") and len(lines[-1]) > 30)
    clean = re.fullmatch(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]*", answer.out + answer.err)
    good = sentence and clean and all(map(PROGRESS.fullmatch, progress)) and answer.status in (0, 1, 2)
    return None if good else "tracebacks"


def answered(mutation: Mutation, folder: Path, seconds: float = SECONDS) -> Answer:
    """How `datafree` answers to a mutation that was made in `folder`."""

    def run() -> int:
        words = shlex.split(mutation.line)
        sys.argv = ["datafree", *words]
        return main(words)

    return asked(run, folder, seconds)


def spoilt(ground: Ground, seed: int) -> Mutation:
    """Make the mutation `seed` in a folder that is cleared before."""
    ground.clear()
    before = Path.cwd()
    os.chdir(ground.folder)
    try:
        return mutated(seed)
    finally:
        os.chdir(before)


def judged(task: tuple[Path, int]) -> tuple[Mutation, Answer, str | None]:
    """One mutation, its answer and what is wrong with it."""
    there, seed = task
    with tempfile.TemporaryDirectory() as scratch:
        ground = Ground(there, Path(scratch).resolve() / "ground")
        mutation = spoilt(ground, seed)
        answer = answered(mutation, ground.folder)
    return mutation, answer, fault(answer)


def inputs(tried: int, jobs: int, seed: int = 0) -> dict[str, int]:
    """Spoil `tried` inputs, from `seed` on, and run a line on each, in `jobs` processes.

    Returns the numbers of those tried, and of the faults: `tracebacks`, `hangs`, `over_memory`, `code_run`. Bad cases are
    printed with their seeds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    counts = dict.fromkeys(("tried", *FAULTS), 0)
    # The pool first: the server of forks is started with what the first one wants to have loaded.
    with context.Pool(jobs, maxtasksperchild=50) as pool, whole() as there:
        for mutation, answer, wrong in pool.imap_unordered(judged, [(there, seed + i) for i in range(tried)], chunksize=10):
            counts["tried"] += 1
            if wrong:
                counts[wrong] += 1
            if wrong or tried == 1:
                print(described(mutation, answer, wrong), file=sys.stderr, flush=True)
            if counts["tried"] % 100 == 0:
                print(f"{counts}", file=sys.stderr, flush=True)
    return counts


def described(mutation: Mutation, answer: Answer, wrong: str | None) -> str:
    """A case for a person who mends it."""
    return (
        f"--- {wrong or 'good'}: --seed {mutation.seed} ({mutation.kind}), status {answer.status}, {answer.seconds:.1f} s, "
        f"{answer.memory / 2**20:.0f} MiB\n    {ascii(mutation.what)[:1500]}\n    datafree {mutation.line!a}\n"
        + "\n".join(f"    | {ascii(line)[1:-1][:600]}" for line in answer.err.splitlines()[-12:])
    )


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tried", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(json.dumps(inputs(given.tried, given.jobs, given.seed), indent=2))
