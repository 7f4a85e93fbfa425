"""Write the README's tables from benchmarks/results/*.json, so that no number is ever typed.

python benchmarks/tables.py          writes them
python benchmarks/tables.py --check  exits with 1 where the README differs
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
METHODS = {"dfad": ("DFAD", "[1912.11006](https://arxiv.org/abs/1912.11006)")}


def accuracy_table(results: list[dict[str, Any]]) -> str:
    """One row a results file: last student over seeds, what the paper reports, and the command."""
    lines = [
        "| method | paper | task | our number (last student) | their number | teacher | KD, real data | KD, noise | command |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        method, paper = METHODS[result["recipe"].split("-")[0]]
        last = [run["last"] for run in result["runs"]]
        spread = f" ± {statistics.stdev(last):.2f}" if len(last) > 1 else ""
        ours = f"**{statistics.mean(last):.2f}**{spread} ({len(last)} seeds)"
        known = result["paper"]
        theirs = f"{known['value']} ({known['kind']})" if known["value"] is not None else "not published"
        pair = f"{result['task']}, {result['teacher_arch']} → {result['student_arch']}"
        base = result["baselines"]
        cells = [
            method,
            paper,
            pair,
            ours,
            theirs,
            result["teacher"],
            base["kd_real"],
            base["kd_noise"],
            f"`{result['command']}`",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def speed_table(results: list[dict[str, Any]]) -> str:
    """One row a case of a speed file."""
    lines = ["| what | networks | plain loop | ours | ratio (range) | command |", "|---|---|---|---|---|---|"]
    for result in results:
        for row in result["cases"].values():
            case, (low, high) = row["case"], row["ratio_range"]
            pair = case["teacher"] if case["student"] == "none" else f"{case['teacher']} → {case['student']}"
            pair = f"{row['kind']} | {pair}, batch {case['batch']}"
            times = f"{row['plain_s']:.2f} s | {row['ours_s']:.2f} s"
            lines.append(f"| {pair} | {times} | **{row['ratio']:.2f}x** ({low:.2f} to {high:.2f}) | `{result['command']}` |")
    return "\n".join(lines)


def filled(readme: str) -> str:
    """The README with the tables between their markers."""
    results = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    ]
    tables = {
        "accuracy": accuracy_table([result for result in results if "runs" in result]),
        "speed": speed_table([result for result in results if "cases" in result]),
    }
    for name, table in tables.items():
        begin, end = f"<!-- {name}: written by benchmarks/tables.py -->", f"<!-- end of {name} -->"
        head, _, rest = readme.partition(begin)
        _, _, tail = rest.partition(end)
        assert tail, f"README.md lacks the markers of the {name} table"
        readme = f"{head}{begin}\n{table}\n{end}{tail}"
    return readme


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    path = ROOT / "README.md"
    readme = path.read_text(encoding="utf-8")
    if parser.parse_args().check:
        sys.exit(filled(readme) != readme)
    path.write_text(filled(readme), encoding="utf-8")


if __name__ == "__main__":
    main()
