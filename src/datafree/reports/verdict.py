"""The result of an experiment compared with the paper's number."""

import statistics
from typing import Any


def verdict(result: dict[str, Any]) -> str:
    """Two lines: the mean of the last students with its baselines, and the paper's number with PASS if the mean reaches it."""
    last = [run["last"] for run in result["runs"]]
    mean, oracle = statistics.mean(last), statistics.mean(run["best_epoch"] for run in result["runs"])
    spread = f" ± {statistics.stdev(last):.2f}" if len(last) > 1 else ""
    base = result["baselines"]
    baselines = f"teacher {result['teacher']:.2f} %, KD on real data {base['kd_real']:.2f} %, on noise {base['kd_noise']:.2f} %"
    first = f"student {mean:.2f}{spread} % (last round, {len(last)} seeds; oracle, best epoch: {oracle:.2f} %); {baselines}"
    paper = result["paper"]
    if paper["value"] is None:
        return f"{first}\nno number was published for this experiment"
    gain = mean - paper["value"]
    comparison = f"{gain:+.2f}  {'PASS' if gain >= 0 else 'SHORT'}"
    return f"{first}\npaper {paper['value']:.2f} % ({paper['kind']}; {paper['source']})  {comparison}"
