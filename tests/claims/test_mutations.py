"""Spoilt inputs of every kind end in one sentence, or are served: the generator and the judge of the benchmark, in small."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.pool import Pool
from pathlib import Path

import mutation_archives
import mutations
import pytest
import reliability_inputs
from helpers import FORKS
from hypothesis import given, settings
from hypothesis import strategies as st
from reliability_inputs import asked, described, fault, judged

pytest.importorskip("timm", reason="some of the networks are of timm and torchvision")


@pytest.fixture(scope="module")
def whole() -> Iterator[Path]:
    with mutations.whole() as folder:
        yield folder


@pytest.fixture(scope="module")
def workers() -> Iterator[Pool]:
    """One process at a time that forks for each line: one that has started threads, as this one may have, must not."""
    with FORKS.Pool(1, maxtasksperchild=50) as pool:
        yield pool


@given(kind=st.integers(0, len(mutations.KINDS) - 1), number=st.integers(0, 10**6))
@settings(max_examples=2 * settings().max_examples)
def test_whatever_is_spoilt_is_answered_in_a_sentence(kind: int, number: int, whole: Path, workers: Pool) -> None:
    mutation, answer, wrong = workers.apply(judged, ((whole, kind + number * len(mutations.KINDS)),))
    assert wrong is None, described(mutation, answer, wrong)


def test_the_same_seed_spoils_the_same_thing(whole: Path, tmp_path: Path) -> None:
    ground = reliability_inputs.Ground(whole, tmp_path / "ground")
    for seed in range(0, len(mutations.KINDS), 3):
        assert reliability_inputs.spoilt(ground, seed) == reliability_inputs.spoilt(ground, seed)


def says(*lines: str, status: int = 1) -> Callable[[], int]:
    """A job that prints `lines` on standard error and ends."""

    def job() -> int:
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        return status

    return job


def raises() -> int:
    raise KeyError("x")


def sleeps() -> int:
    time.sleep(60)
    return 0


def takes_memory() -> int:
    return len(bytearray(os.urandom(2**10)) * 2**17) % 2  # 128 MiB


def kills_itself() -> int:
    os.kill(os.getpid(), signal.SIGUSR1)
    return 0


def runs_a_program() -> int:
    return os.system("true")


def makes_the_canary() -> int:
    Path(mutation_archives.CANARY).touch()
    return 0


SENTENCE = "datafree: The file x is no network; give another one."


@pytest.mark.parametrize(
    ("job", "found"),
    [
        (says(status=0), None),
        (says("datafree 0.1.0: distill, loading torch", "round 1/2  student_loss 3", SENTENCE), None),
        (raises, "tracebacks"),
        (kills_itself, "tracebacks"),
        (says(status=1), "tracebacks"),
        (says(SENTENCE, SENTENCE), "tracebacks"),
        (says("Something else.", SENTENCE), "tracebacks"),
        (says("x.py:3: UserWarning: x", status=0), "tracebacks"),
        (says(f"{SENTENCE}\x1b[31m"), "tracebacks"),
        (sleeps, "hangs"),
        (takes_memory, "over_memory"),
        (says("datafree: Memory ran out (128 MiB more were asked for)."), "over_memory"),
        (runs_a_program, "code_run"),
        (makes_the_canary, "code_run"),
    ],
)
def test_the_judge_knows_every_fault(
    job: Callable[[], int], found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reliability_inputs, "MEMORY", 2**26)
    (tmp_path / "ground").mkdir()
    assert fault(asked(job, tmp_path / "ground", seconds=0.5 if job is sleeps else 10)) == found
