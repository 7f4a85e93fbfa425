"""Whether cost grows as it should: twice the rounds, a tenfold pool, ten thousand rounds.

    python benchmarks/scaling.py --out benchmarks/results/scaling-cpu.json

Cost is CPU seconds on one thread. Rounds are those of `datafree distill` commands, each in a process of its own, whose resident
set is read from outside every half second. The steps on a pool run in this process.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from datafree import Card, InputSpec, Network, build, distill
from datafree.core.runtime import Runtime
from datafree.data.sets import noise_set
from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods.stored import Stored
from datafree.reports import record

INPUTS = InputSpec(shape=(1, 8, 8))
TINY = "small-cnn-quarter"
QUIET = "--plan.eval-every 0 --plan.grid-every 0 --plan.log-every 100 --plan.save-every 100000 --device cpu"


def run(teacher: Path, out: Path, rounds: int) -> tuple[float, list[float]]:
    """CPU seconds of a run of `rounds` rounds, and the resident MiB of its process, every half second."""
    line = f"distill {teacher} --student {TINY} --recipe dfad-digits --plan.rounds {rounds} --plan.steps 1 --plan.batch 16 "
    line += f"--method.batch 16 {QUIET} --out {out}"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "datafree.cli", *shlex.split(line)]
    memory = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(0.5)
            if (out / "log.csv").exists() and process.poll() is None:
                memory.append(resident_mb(process.pid))
    if process.returncode:
        raise RuntimeError(f"the run ended with {process.returncode}: {line}")
    return json.loads((out / "run.json").read_text(encoding="utf-8"))["results"]["cpu_s"], memory


def resident_mb(pid: int) -> float:
    """Resident MiB of a process; 0 where it has just ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (FileNotFoundError, IndexError):
        return 0.0


def step_seconds(images: int, steps: int, folder: Path) -> float:
    """CPU seconds of a run of `steps` student steps on a pool of `images`, its start included."""
    path = folder / f"{images}.safetensors"
    if not path.exists():
        noise_set(INPUTS, images, seed=0).save(path)
    teacher, student = network(1), network(2).module
    plan = Plan(
        rounds=2,
        images_per_round=images,
        pool_size=images,
        synthesis_rounds=1,
        warmup=1,
        steps=steps,
        batch=64,
        log_every=1,
        save_every=100,
        eval_every=0,
    )
    began = time.process_time()
    distill(teacher, student, recipe=Recipe(Stored(path=path), plan, "this benchmark"), device="cpu", quiet=True)
    return time.process_time() - began


def network(seed: int) -> Network:
    """A fresh network, its weights drawn by that seed."""
    torch.manual_seed(seed)
    return Network(build(TINY, INPUTS, 10).eval(), Card(architecture=TINY, classes=10, inputs=INPUTS))


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        teacher = folder / "teacher.safetensors"
        network(1).save(teacher)
        short, long = [], []
        for pair in range(3):
            short.append(run(teacher, folder / f"short-{pair}", 2000)[0])
            long.append(run(teacher, folder / f"long-{pair}", 4000)[0])
        rounds = statistics.median(b / a for a, b in zip(short, long, strict=True))
        print(f"twice the rounds cost {rounds:.2f} times as much", flush=True)

        def a_step(images: int) -> float:
            return (step_seconds(images, 4000, folder) - step_seconds(images, 1000, folder)) / 3000

        steps = [(a_step(10_000), a_step(100_000)) for _ in range(3)]
        pool = statistics.median(large / small for small, large in steps)
        print(f"a step on a pool of 100,000 costs {pool:.2f} times one on 10,000", flush=True)

        _, memory = run(teacher, folder / "ten-thousand", 10_000)
        fifth = len(memory) // 5
        early, late = statistics.median(memory[fifth : 2 * fifth]), statistics.median(memory[-fifth:])
        print(f"memory over 10,000 rounds: {early:.1f} MiB in the second fifth, {late:.1f} in the last", flush=True)
    result: dict[str, Any] = {
        "command": f"python benchmarks/scaling.py --out {arguments.out}",
        "machine": Runtime("cpu").machine(),
        "versions": record.versions(),
        "scaling": {
            "twice_the_rounds": round(rounds, 3),
            "cpu_s_2000_rounds": short,
            "cpu_s_4000_rounds": long,
            "pool_100k_against_10k": round(pool, 3),
            "step_ms_10k_100k": [[round(1000 * value, 4) for value in pair] for pair in steps],
            "memory_mb_second_fifth": round(early, 1),
            "memory_mb_last_fifth": round(late, 1),
        },
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
