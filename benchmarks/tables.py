"""Write the tables of the README and the docs from benchmarks/results/*.json, so that no number in them is typed by hand.

python benchmarks/tables.py          writes them
python benchmarks/tables.py --check  exits with 1 where a document differs
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from estimate_table import estimate_table
from grid_table import auto_choices_table, grid_table
from reliability_table import reliability_table
from student_table import student_table

from datafree.recipes.experiments import EXPERIMENTS

ROOT = Path(__file__).parents[1]
METHODS = {
    "dafl": ("DAFL", "[1904.01186](https://arxiv.org/abs/1904.01186)"),
    "dfad": ("DFAD", "[1912.11006](https://arxiv.org/abs/1912.11006)"),
    "dfq": ("DFQ", "[2005.04136](https://arxiv.org/abs/2005.04136)"),
    "sttss": ("STTSS", "[2104.04868](https://arxiv.org/abs/2104.04868)"),
    "zskt": ("ZSKT", "[1905.09768](https://arxiv.org/abs/1905.09768)"),
}


def accuracy_table(results: list[dict[str, Any]]) -> str:
    """One row for each results file, in the order of the experiments: the last students, the paper's number, the command."""
    order = list(EXPERIMENTS)
    lines = [
        "| method | paper | task | our number (last student) | their number | teacher | KD, real data | KD, noise | command |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in sorted(results, key=lambda result: order.index(result["command"].split()[2])):
        method, paper = METHODS[result["recipe"].split("-")[0]]
        last = [run["last"] for run in result["runs"]]
        spread = f" ± {statistics.stdev(last):.2f}" if len(last) > 1 else ""
        ours = f"**{statistics.mean(last):.2f}**{spread} ({_seeds(last)})"
        known = result["paper"]
        theirs = f"{known['value']} ({known['kind']})" if known["value"] is not None else "not published"
        pair = f"{result['task']}, {result['teacher_arch']} → {result['student_arch']}"
        base = result["baselines"]
        cells = [
            result.get("label", method),
            paper,
            pair,
            ours,
            theirs,
            result["teacher"],
            base.get("kd_real", "not run"),
            base.get("kd_noise", "not run"),
            f"`{result['command']}`",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


SHORT = ("sttss-mnist-light", "dfad-mnist-light", "dafl-mnist", "dfad-camvid-light")  # experiments that the README shows
SHORT_CASES = {
    "fashion-resnet8": "Fashion-MNIST, resnet8 → resnet8-half, 5 CPU minutes",
    "cifar10-resnet20": "CIFAR-10, a third party's resnet20 → resnet20-half, 15 CPU minutes",
}  # and cases of the grid


def short_table(runs: list[dict[str, Any]], grids: list[dict[str, Any]]) -> str:
    """The README's rows: some experiments, and `auto` on some cases of the grid."""
    lines = ["| task | method | our number | published | KD on real data |", "|---|---|---|---|---|"]
    for name in SHORT:
        result = next(each for each in runs if each["command"].split()[2] == name)
        theirs = f"{result['paper']['value']} ({result['paper']['kind']})"
        pair = f"{result['task'].split(',')[0]}, {result['teacher_arch']} → {result['student_arch']}"
        method = f"`{result['command']}`"
        lines.append(
            _line(
                pair,
                method,
                _mean([run["last"] for run in result["runs"]]),
                theirs,
                result["baselines"].get("kd_real", "not run"),
            )
        )
    rows = [row for grid in grids for row in grid["rows"]]
    for case, pair in SHORT_CASES.items():
        auto, real = (
            [row["last"] for row in rows if (row["case"], row["method"]) == (case, how)] for how in ("auto", "kd-real")
        )
        lines.append(_line(pair, "[`auto`](docs/auto.md)", _mean(auto), "", f"{statistics.mean(real):.2f}, in the same time"))
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"**{statistics.mean(values):.2f}**{spread} ({_seeds(values)})"


def _line(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _seeds(values: list[float]) -> str:
    return f"{len(values)} seed{'s' * (len(values) > 1)}"


def speed_tables(results: list[dict[str, Any]]) -> str:
    """One table for each speed file, its command below: the longest first, comparisons of torch.compile last."""
    tables = []
    for compiled in (False, True):
        for result in sorted(results, key=lambda result: -len(result["cases"])):
            rows = [row for row in result["cases"].values() if (row["kind"] == "compiled") == compiled]
            if rows:
                tables.append(f"{_speed_table(rows, compiled)}\n\n`{result['command']}`")
    return "\n\n".join(tables)


def _speed_table(rows: list[dict[str, Any]], compiled: bool) -> str:
    first, second = ("as it is", "by torch.compile") if compiled else ("plain loop", "ours")
    lines = [
        f"| what | networks | {first} | {second} | ratio (range) | images/s | GFLOP/s (share of the best convolution) "
        "| generator's share | peak memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        case, (low, high) = row["case"], row["ratio_range"]
        pair = case["teacher"] if row["kind"] == "inversion" else f"{case['teacher']} → {case['student']}"
        width = f", generator {case['width']} wide" if row["kind"] in ("dfad", "compiled") else ""
        cells = [
            CASE_LABELS[row["kind"]],
            f"{pair}, batch {case['batch']}{width}",
            *(f"{row[who]:.3f} s" for who in ("plain_s", "ours_s")),
            f"**{row['ratio']:.2f}x** ({low:.2f} to {high:.2f})",
            f"{row['ours_images_per_s']:,.0f}",
            f"{row['gflop_per_s']:,.0f} ({100 * row['share_of_best_convolution']:.0f} %)",
            f"{100 * row['generator_share']:.0f} %" if "generator_share" in row else "",
            f"{row['plain_peak_mb']:,.0f} and {row['ours_peak_mb']:,.0f} MiB",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def scaling_sentences(results: list[dict[str, Any]]) -> str:
    """One sentence for each file on how cost grows."""
    lines = []
    for result in results:
        found = result["scaling"]
        lines.append(
            f"Twice the rounds cost {found['twice_the_rounds']:.2f} times as much, a step on a pool of 100,000 images "
            f"{found['pool_100k_against_10k']:.2f} times one on 10,000, and over 10,000 rounds memory went from "
            f"{found['memory_mb_second_fifth']:.1f} MiB (second fifth) to {found['memory_mb_last_fifth']:.1f} (last fifth): "
            f"`{result['command']}`."
        )
    return "\n".join(lines)


CASE_LABELS = {
    "dfad": "DFAD round",
    "compiled": "DFAD round",
    "inversion": "inversion step with statistics",
    "distillation": "distillation step on a stored set",
    "after-inversion": "distillation step after an inversion, the plain one's hooks left on",
    "stored-or-inverted": "our distillation step, on a stored set and after an inversion",
}


def choices_table(results: list[dict[str, Any]]) -> str:
    """One row for each sigma and activation weight; cells have the student's accuracy and the share of the largest class."""
    rows = [row for result in results for row in result["choices"]]
    columns = list(dict.fromkeys((row["feature"], row["balanced"]) for row in rows))
    names = [f"{feature}{', balanced' * balanced}" for feature, balanced in columns]
    lines = ["| sigma | lambda_a | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for sigma, activation in dict.fromkeys((row["sigma"], row["activation"]) for row in rows):
        cells = []
        for column in columns:
            key = (sigma, activation, *column)
            here = [row for row in rows if (row["sigma"], row["activation"], row["feature"], row["balanced"]) == key]
            last, largest = (statistics.mean(row[name] for row in here) for name in ("last", "largest_class"))
            cells.append(f"{last:.1f} ({100 * largest:.0f})")
        lines.append(f"| {sigma:g} | {activation:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def comparison_table(results: list[dict[str, Any]]) -> str:
    """One row for each task, method and budget of a comparison of hosts with and without DDA."""
    lines = [
        "| task | method | budget | last student | images made | variations kept | CPU seconds | command |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        entries = result["comparison"]
        for key in dict.fromkeys((entry["method"], entry["budget"]) for entry in entries):
            here = [entry for entry in entries if (entry["method"], entry["budget"]) == key]
            last = [entry["last"] for entry in here]
            spread = f" ± {statistics.stdev(last):.2f}" if len(last) > 1 else ""
            images, kept, tried, seconds = (
                round(statistics.mean(entry[name] for entry in here)) for name in ("images", "kept", "variations", "cpu_s")
            )
            cells = [
                result["task"],
                *RUN_LABELS.get(key, key),
                f"**{statistics.mean(last):.2f}**{spread} ({_seeds(last)})",
                f"{images - kept if tried else images:,}" if key[0] != "kd_real" else "none",
                f"{kept:,} of {tried:,}" if tried else "none",
                f"{seconds:,}",
                f"`{result['command']}`",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


RUN_LABELS = {
    **{(host, "steps"): (f"`{host}`", "equal steps") for host in ("deepinversion", "csd", "cmi")},
    **{(host, "dda"): (f"`dda` of `{host}`", "the reference") for host in ("deepinversion", "csd", "cmi")},
    **{(host, "time"): (f"`{host}`", "equal time") for host in ("deepinversion", "csd", "cmi")},
    ("dfad", "own-plan"): ("`dfad`", "its own recipe, generator 16 wide"),
    ("kd_real", "steps"): ("KD, real data", "equal steps"),
}


def dda_choices_table(results: list[dict[str, Any]]) -> str:
    """One row for each choice of what DDA does with its sources."""
    lines = [
        "| variations | strength | omega | same class required | last student | images | mean cosine | same class | kept |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    names = ("variations", "strength", "omega", "same_class")
    for result in results:
        rows = result["dda_choices"]
        for key in dict.fromkeys(tuple(row[name] for name in names) for row in rows):
            here = [row for row in rows if tuple(row[name] for name in names) == key]
            last = [row["last"] for row in here]
            spread = f" ± {statistics.stdev(last):.2f}" if len(last) > 1 else ""
            shares = [
                f"{statistics.mean(row[name] for row in here):.2f}" if name in here[0] else ""
                for name in ("share_similarity", "share_same_class", "share_kept")
            ]
            images = round(statistics.mean(row["images"] for row in here))
            asked = [str(key[0]), f"{key[1]:g}", f"{key[2]:g}", "yes" if key[3] else "no"] if key[0] else ["0", "", "", ""]
            lines.append("| " + " | ".join([*asked, f"{statistics.mean(last):.2f}{spread}", f"{images:,}", *shares]) + " |")
    return "\n".join(lines)


def int8_table(results: list[dict[str, Any]]) -> str:
    """One row for each network, runtime and calibration set, and the command."""
    lines = [
        "| network | runtime | calibration | float | int8 | agrees with float | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        for row in result["rows"]:
            numbers = (f"{row['float']:.2f}", f"**{row['int8']:.2f}**", f"{row['agreement']:.2f}")
            lines.append(_line(row["network"], row["runtime"], row["calibration"], *numbers, row["verdict"]))
        lines += ["", f"`{result['command']}`"]
    return "\n".join(lines)


def written() -> dict[Path, str]:
    """The text of each document, with its tables made from the results files."""
    results = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    ]

    def having(key: str) -> list[dict[str, Any]]:
        return [result for result in results if isinstance(result.get(key), list | dict)]

    grids = [result for result in having("rows") if "case" in result["rows"][0]]
    tables = {
        ROOT / "README.md": {"short": short_table(having("runs"), grids)},
        ROOT / "docs" / "results.md": {
            "accuracy": accuracy_table(having("runs")),
            "speed": speed_tables(having("cases")),
            "scaling": scaling_sentences(having("scaling")),
        },
        ROOT / "docs" / "auto.md": {
            "grid": grid_table(grids),
            "auto-choices": auto_choices_table(having("auto_choices")),
        },
        ROOT / "docs" / "estimate.md": {"estimate": estimate_table([result for result in results if "coverage" in result])},
        ROOT / "docs" / "export.md": {
            "int8": int8_table([result for result in having("rows") if "calibration" in result["rows"][0]])
        },
        ROOT / "docs" / "students.md": {
            "students": student_table([result for result in results if "seconds_to_list" in result])
        },
        ROOT / "docs" / "reliability.md": {"reliability": reliability_table(having("kills"))},
        ROOT / "docs" / "methods" / "sttss.md": {"choices": choices_table(having("choices"))},
        ROOT / "docs" / "methods" / "dda.md": {
            "comparison": comparison_table(having("comparison")),
            "dda-choices": dda_choices_table(having("dda_choices")),
        },
    }
    return {path: _filled(path, named) for path, named in tables.items()}


def _filled(path: Path, tables: dict[str, str]) -> str:
    text = path.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin, end = f"<!-- {name}: written by benchmarks/tables.py -->", f"<!-- end of {name} -->"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        assert tail, f"{path.name} lacks the markers of the {name} table"
        text = f"{head}{begin}\n{table}\n{end}{tail}"
    return text


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    documents = written()
    if parser.parse_args().check:
        sys.exit(any(path.read_text(encoding="utf-8") != text for path, text in documents.items()))
    for path, text in documents.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
