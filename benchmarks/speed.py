"""Our rounds and steps against plainly written ones: same networks, same mathematics, alternating in one process.

    python benchmarks/speed.py --out benchmarks/results/speed-cpu.json
    python benchmarks/speed.py --cases all --device cuda --precision bf16 --out benchmarks/results/speed-cuda.json

On a CPU the times are CPU seconds of this process on one thread; on a GPU they are wall seconds until the device is idle. The
ratio is plain / ours of each pair of rounds, given as median, minimum and maximum. FLOP/s are what torch's counter finds in one
of our rounds, divided by our fastest round; their share is of the fastest 3x3 convolution on this machine in this precision.
"""

import argparse
import dataclasses
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from contests import CASES, KINDS, PAIRS, Contest, Place
from torch.utils.flop_counter import FlopCounterMode

from datafree.reports import record

PLAIN = ("cpu", "fp32")
SMALL = ("dfad-lenet5", "dfad-lenet5-narrow", "dfad-wrn-40-2", "dfad-camvid", "inversion-wrn-40-2", "distillation-wrn-40-2",
         "after-inversion-wrn-40-2", "stored-or-inverted-wrn-40-2")  # fmt: skip


def seconds(play: Callable[[], object], device: str) -> float:
    """Seconds that one call takes."""
    if device == "cpu":
        began = time.process_time()
        play()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    play()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def best_rates(place: Place) -> dict[str, float]:
    """FLOP/s of the machine at its best in this precision: of a large matrix product and of 3x3 convolutions."""
    kind = torch.bfloat16 if place.precision == "bf16" else torch.float32
    n, times = (2048, 8) if place.device == "cpu" else (8192, 20)
    a, b = torch.randn(2, n, n, dtype=kind)
    products = [2 * n**3 / seconds(lambda: a @ b, place.device) for _ in range(times)]
    rates = [0.0]
    for channels, side, batch in ((64, 32, 32), (128, 32, 32), (256, 16, 32), (512, 8, 64)):
        batch *= 1 if place.device == "cpu" else 32
        x = torch.randn(batch, channels, side, side, dtype=kind).to(memory_format=torch.channels_last)
        weight = torch.randn(channels, channels, 3, 3, dtype=kind).to(memory_format=torch.channels_last)
        work = 2 * 9 * channels**2 * side**2 * batch
        with torch.no_grad():
            rates += [work / seconds(lambda x=x, w=weight: F.conv2d(x, w, padding=1), place.device) for _ in range(times)]
    return {"matrix product": max(products), "3x3 convolution": max(rates)}


def measure(name: str, place: Place, pairs: int, best: dict[str, float]) -> dict[str, Any]:
    """Seconds of a round (or step) of both loops, alternating, their ratio, and how close the machine is to its best."""
    kind, pair = CASES[name]
    contest = KINDS[kind](PAIRS[pair], place)
    players = {"plain": contest.plain, "ours": contest.ours, **contest.parts}
    for play in players.values():
        play()  # the first call allocates
    with FlopCounterMode(display=False) as counter:
        contest.ours()
    took: dict[str, list[float]] = {player: [] for player in players}
    for _ in range(pairs):
        for player, play in players.items():
            took[player].append(seconds(play, place.device))
    ratios = [p / o for p, o in zip(took["plain"], took["ours"], strict=True)]
    middle = {player: statistics.median(values) for player, values in took.items()}
    rate = counter.get_total_flops() / min(took["ours"])  # the fastest round, as the best rates are of the fastest calls
    return {
        "kind": kind,
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "plain_s": round(middle["plain"], 4),
        "ours_s": round(middle["ours"], 4),
        "ours_images_per_s": round(contest.images / middle["ours"], 1),
        "gflop_per_s": round(rate / 1e9, 1),
        "share_of_best_convolution": round(rate / best["3x3 convolution"], 3),
        **{f"{part}_share": round(middle[part] / middle["ours"], 3) for part in contest.parts},
        **{f"{who}_peak_mb": peak_mb(name, place, who) for who in ("plain", "ours")},
        "case": dataclasses.asdict(PAIRS[pair]),
    }


def peak_mb(name: str, place: Place, who: str) -> float:
    """Peak memory in MiB of a fresh process that runs two rounds: on a CPU the process's, torch included, else the GPU's."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as pool:
        return round(pool.submit(_two_rounds, name, place, who).result(), 1)


def _two_rounds(name: str, place: Place, who: str) -> float:
    prepare(place)
    kind, pair = CASES[name]
    contest: Contest = KINDS[kind](PAIRS[pair], place)
    play = contest.plain if who == "plain" else contest.ours
    play(), play()
    if place.device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # getrusage's would be the parent's, where that is larger
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**10


def prepare(place: Place) -> None:
    """One thread, one seed, and new tensors on the device."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.set_default_device(place.device)


def line(name: str, row: dict[str, Any]) -> str:
    """A case as a line to print."""
    generator = f"  generator {100 * row['generator_share']:.0f} %" if "generator_share" in row else ""
    return (
        f"{name:28} plain {row['plain_s']:.3f} s  ours {row['ours_s']:.3f} s  "
        f"ratio {row['ratio']:.2f} ({row['ratio_range'][0]:.2f} to {row['ratio_range'][1]:.2f})  "
        f"{row['ours_images_per_s']:,.0f} images/s  {row['gflop_per_s']:,.0f} GFLOP/s, "
        f"{100 * row['share_of_best_convolution']:.0f} % of the best convolution{generator}  "
        f"peak {row['plain_peak_mb']:,.0f} and {row['ours_peak_mb']:,.0f} MiB"
    )


def main() -> None:
    """Measure, print a line for each case, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=[*CASES, "all"],
        default=list(SMALL),
        help="default: a small selection; all: every case except the compiled ones",
    )
    parser.add_argument("--pairs", type=int, default=7, help="rounds of each loop (default 7)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of both loops (default fp32)")
    parser.add_argument("--graphs", action="store_true", help="compile with CUDA graphs")
    arguments = parser.parse_args()
    place = Place(arguments.device, arguments.precision, arguments.graphs)
    quick = [name for name, (kind, _) in CASES.items() if kind != "compiled"]  # the others take minutes to compile
    chosen = quick if arguments.cases == ["all"] else arguments.cases
    prepare(place)
    best = best_rates(place)
    print("  ".join(f"best {what} {rate / 1e9:,.0f} GFLOP/s" for what, rate in best.items()), flush=True)
    cases = {}
    for name in chosen:
        cases[name] = measure(name, place, arguments.pairs, best)
        print(line(name, cases[name]), flush=True)
    flags = "" if chosen == list(SMALL) else f" --cases {' '.join(arguments.cases)}"
    flags += f" --device {place.device} --precision {place.precision}" if (place.device, place.precision) != PLAIN else ""
    flags += " --graphs" if place.graphs else ""
    how = "CPU seconds of the process" if place.device == "cpu" else "wall seconds until the device is idle"
    result = {
        "command": f"python benchmarks/speed.py{flags} --pairs {arguments.pairs} --out {arguments.out}",
        "machine": place.runtime().machine(),
        "versions": record.versions(),
        "precision": place.precision,
        "graphs": place.graphs,
        "measured": f"{how}, one thread, plain and ours alternating; median and range over pairs",
        "best_gflop_per_s": {what: round(rate / 1e9, 1) for what, rate in best.items()},
        "ratio": {name: row["ratio"] for name, row in cases.items()},
        "cases": cases,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
