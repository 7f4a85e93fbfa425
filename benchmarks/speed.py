"""Our rounds and steps against plainly written ones: same networks, same mathematics, alternating in one process.

    python benchmarks/speed.py --out benchmarks/results/speed-cpu.json

CPU seconds of this process on one thread; the ratio is plain / ours, pair by pair, as its median with minimum and maximum.
"""

import argparse
import dataclasses
import json
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from contests import CASES, KINDS, Case

from datafree import record
from datafree.runtime import Runtime


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


def peak_mb(kind: str, case: Case, player: int) -> float:
    """Peak memory in MiB of a fresh process that plays two rounds of the plain loop (0) or of ours (1), torch included."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as pool:
        return round(pool.submit(_play_alone, kind, case, player).result(), 1)


def _play_alone(kind: str, case: Case, player: int) -> float:
    torch.set_num_threads(1)
    play = KINDS[kind](case)[player]
    play(), play()
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # getrusage's would be the parent's, where that is larger
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**10


def main() -> None:
    """Measure, print a line a case, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="those to measure (default all)")
    parser.add_argument("--pairs", type=int, default=7, help="rounds of each loop (default 7)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cases = {}
    for name in arguments.cases:
        kind, case = CASES[name]
        cases[name] = measure(kind, case, arguments.pairs)
        row = cases[name]
        row |= {f"{who}_peak_mb": peak_mb(kind, case, player) for player, who in enumerate(("plain", "ours"))}
        print(
            f"{name:18} plain {row['plain_s']:.3f} s  ours {row['ours_s']:.3f} s ({kind})  "
            f"ratio {row['ratio']:.2f} ({row['ratio_range'][0]:.2f} to {row['ratio_range'][1]:.2f})  "
            f"peak {row['plain_peak_mb']:.0f} and {row['ours_peak_mb']:.0f} MiB",
            flush=True,
        )
    chosen = "" if arguments.cases == list(CASES) else f" --cases {' '.join(arguments.cases)}"
    result = {
        "command": f"python benchmarks/speed.py{chosen} --pairs {arguments.pairs} --out {arguments.out}",
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
