"""An experiment's result beside the paper's number."""

import statistics
from typing import Any


def verdict(result: dict[str, Any]) -> str:
    """Two lines: ours beside the paper's, and whether the last students' mean reaches it."""
    last = [run["last"] for run in result["runs"]]
    ours, oracle = statistics.mean(last), statistics.mean(run["best_epoch"] for run in result["runs"])
    spread = f" ± {statistics.stdev(last):.2f}" if len(last) > 1 else ""
    base = result["baselines"]
    around = f"teacher {result['teacher']:.2f}, KD on real data {base['kd_real']:.2f}, on noise {base['kd_noise']:.2f}"
    told = f"ours {ours:.2f}{spread} % (the last student, {len(last)} seeds; oracle, best epoch: {oracle:.2f}); {around}"
    paper = result["paper"]
    if paper["value"] is None:
        return f"{told}\nno number was published for this"
    word = "PASS" if ours >= paper["value"] else "SHORT"
    return f"{told}\npaper {paper['value']:.2f} % ({paper['kind']}; {paper['source']})  {ours - paper['value']:+.2f}  {word}"
