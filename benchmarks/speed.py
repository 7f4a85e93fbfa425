"""Our rounds and steps against plainly written ones: same networks, same mathematics, alternating in one process.

    python benchmarks/speed.py --out benchmarks/results/speed-dfad-cpu.json

CPU seconds of this process on one thread; the ratio is plain / ours, pair by pair, as its median with minimum and maximum.
"""

import argparse
import copy
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from plain import PlainDFAD, PlainInversion, PlainUpsampleGenerator

from datafree import record
from datafree.architectures import build
from datafree.losses import soft_cross_entropy, statistics_distance
from datafree.method import Problem, Teacher
from datafree.methods.dfad import DFAD
from datafree.runtime import Runtime, fastest_layout
from datafree.spec import InputSpec
from datafree.taps import norm_statistics
from datafree.transfer import Pool


@dataclasses.dataclass(frozen=True)
class Case:
    """A pair of networks, a generator and a batch."""

    teacher: str
    student: str
    shape: tuple[int, int, int]
    latent: int
    width: int
    batch: int
    steps: int = 5


CASES = {
    "lenet5": ("dfad round", Case("lenet5", "lenet5-half", (1, 32, 32), latent=100, width=128, batch=128)),
    "wrn-40-2": ("dfad round", Case("wrn-40-2", "wrn-16-1", (3, 32, 32), latent=256, width=128, batch=64)),
    "inversion-wrn-40-2": ("inversion step", Case("wrn-40-2", "none", (3, 32, 32), latent=0, width=0, batch=64, steps=0)),
}


def players(case: Case) -> tuple[Callable[[], None], Callable[[], None]]:
    """The plain round and ours, on networks with equal weights."""
    runtime = Runtime("cpu")
    inputs = InputSpec(shape=case.shape)
    teacher, student = (build(name, inputs, 10) for name in (case.teacher, case.student))
    generator = PlainUpsampleGenerator(case.shape, case.latent, case.width)
    plain = PlainDFAD(
        copy.deepcopy(teacher), copy.deepcopy(student), copy.deepcopy(generator), case.latent, case.batch, case.steps
    )
    problem = Problem(Teacher(teacher.eval(), runtime), fastest_layout(student.train()), inputs, 10)
    ours = DFAD(latent=case.latent, width=case.width, batch=case.batch).start(problem, runtime)
    optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, fused=True)

    pool = Pool(inputs, keep=0)

    def round_() -> None:
        pool.add(ours.synthesize(case.steps * case.batch))
        for batch in pool.batches(case.steps, case.batch, runtime.random):
            loss = ours.loss(student, batch)
            runtime.minimize(loss, optimizer)
            runtime.note("student_loss", loss)

    return plain.round, round_


def inversions(case: Case) -> tuple[Callable[[], None], Callable[[], None]]:
    """A plain step of inversion with statistics, and ours, from equal weights and targets."""
    runtime = Runtime("cpu")
    inputs = InputSpec(shape=case.shape)
    network = build(case.teacher, inputs, 10).eval()
    targets = torch.randn(case.batch, 10).softmax(1)
    plain = PlainInversion(copy.deepcopy(network), targets, case.shape, temperature=20)
    teacher = Teacher(network, runtime)
    x = torch.randn(case.batch, *case.shape).contiguous(memory_format=torch.channels_last).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.1, fused=True)
    best = [x.detach().clone(), torch.tensor(torch.inf)]

    def step() -> None:
        with norm_statistics(teacher.network) as seen:
            answer = teacher(x)
        loss = soft_cross_entropy(answer, targets, 20).mean() + statistics_distance(seen.values())
        with torch.no_grad():
            best[0] = torch.where(loss < best[1], x, best[0])
            best[1] = torch.minimum(loss, best[1])
        runtime.minimize(loss, optimizer)

    return plain.step, step


def measure(kind: str, case: Case, pairs: int) -> dict[str, Any]:
    """CPU seconds of a round (or step) of each, alternating, and the ratio pair by pair."""
    plain, ours = KINDS[kind](case)
    plain(), ours()  # the first allocates
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(pairs):
        for name, play in (("plain", plain), ("ours", ours)):
            began = time.process_time()
            play()
            seconds[name].append(time.process_time() - began)
    ratios = [p / o for p, o in zip(seconds["plain"], seconds["ours"], strict=True)]
    images = case.batch * (case.steps + 1)
    return {
        "kind": kind,
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "plain_s": round(statistics.median(seconds["plain"]), 4),
        "ours_s": round(statistics.median(seconds["ours"]), 4),
        "ours_images_per_s": round(images / statistics.median(seconds["ours"]), 1),
        "case": dataclasses.asdict(case),
    }


KINDS = {"dfad round": players, "inversion step": inversions}


def main() -> None:
    """Measure, print a line a case, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--pairs", type=int, default=7, help="rounds of each loop (default 7)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cases = {}
    for name, (kind, case) in CASES.items():
        cases[name] = measure(kind, case, arguments.pairs)
        row = cases[name]
        print(
            f"{name:18} plain {row['plain_s']:.3f} s  ours {row['ours_s']:.3f} s a {kind.split()[1]}  "
            f"ratio {row['ratio']:.2f} ({row['ratio_range'][0]:.2f} to {row['ratio_range'][1]:.2f})",
            flush=True,
        )
    result = {
        "command": f"python benchmarks/speed.py --pairs {arguments.pairs} --out {arguments.out}",
        "machine": Runtime("cpu").machine(),
        "versions": record.versions(),
        "measured": "CPU seconds of the process, one thread, plain and ours alternating; median and range over pairs",
        "ratio": {name: row["ratio"] for name, row in cases.items()},
        "cases": cases,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
