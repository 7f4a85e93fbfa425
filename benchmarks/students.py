"""A student by its size against one named by hand: a third party's CIFAR-10 ResNet-56, `--student 4x` and no other flag.

    python benchmarks/students.py --data FOLDER --weights FOLDER --runs runs/students

FOLDER of data holds cifar10_test.npz, that of weights resnet56-4bfd9763.th. Each student has the same CPU
time, and is judged by the whole test set at its end. Resumable: what is finished is not run again. Further requests, as
`--students 4x-compute 5ms`, join the rows of the results file.
"""

import argparse
import json
import os
import shlex
import time
from pathlib import Path
from typing import Any

from grid import RESNET, datafree

from datafree import evaluate, load, students
from datafree.core.files import write_text
from datafree.core.runtime import Runtime
from datafree.networks.inside.cost import latency_ms, multiply_adds
from datafree.networks.saved.weights import parameters
from datafree.reports import record

BESIDE = "resnet20-half"  # what a person named by hand before
OUT = Path(__file__).parent / "results" / "students.json"


def main() -> None:
    """Run every student that has not been run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/students"))
    parser.add_argument("--students", nargs="+", default=["4x", BESIDE])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--budget", default="15m-cpu")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    given.runs.mkdir(parents=True, exist_ok=True)
    teacher, test = given.runs / "teacher.safetensors", str(given.data / "cifar10_test.npz")
    if not teacher.exists():
        weights = shlex.quote(str(given.weights / "resnet56-4bfd9763.th"))
        datafree(f"pack {weights} --arch resnet56 {RESNET} --out {teacher}")
    rows = json.loads(given.out.read_text())["rows"] if given.out.exists() else []
    for student in given.students:
        for seed in given.seeds:
            key = {"student": student, "seed": seed, "budget": given.budget}
            if any(key.items() <= row.items() for row in rows):
                continue
            rows.append(key | row(student, seed, teacher, test, given))
            print(
                "{student:<14} {architecture:<34} {weights:>9,} last {last:6.2f} % agreement {agreement:6.2f}".format(
                    **rows[-1]
                )
            )
            write(given, rows, teacher, test)


def row(student: str, seed: int, teacher: Path, test: str, given: argparse.Namespace) -> dict[str, Any]:
    """One run and what came of it."""
    out = given.runs / f"{student}-{given.budget}-{seed}"
    line = f"distill {teacher} --student {student} --budget {given.budget} --seed {seed} --device cpu --out {out}"
    datafree(line)
    found = json.loads((out / "run.json").read_text())
    last, score = load(out / "student.safetensors"), evaluate(out / "student.safetensors", test, against=teacher, device="cpu")
    taken = found["identity"]["student"]
    return {
        "architecture": ",".join([taken["architecture"], *(f"{name}={value}" for name, value in taken["options"].items())]),
        "rule": found.get("student_choice", "named by hand"),
        "start": found.get("student_start", "random weights"),
        "weights": last.parameters,
        "multiply_adds": multiply_adds(last.module, last.card.inputs),
        "latency_ms": round(latency_ms(last.module, last.card.inputs), 2),
        "file_bytes": (out / "student.safetensors").stat().st_size,
        "last": round(score.percent, 2),
        "agreement": round(score.agreement or 0.0, 2),
        "cpu_s": round(found["results"]["cpu_s"], 1),
        "auto": found["auto"],
        "command": "datafree " + line.replace(str(given.runs), "RUNS"),
    }


def write(given: argparse.Namespace, rows: list[dict[str, Any]], teacher: Path, test: str) -> None:
    """Write the rows, with the teacher's sizes and what it lists for the first request."""
    began, network = time.monotonic(), load(teacher)
    listed = students(teacher, "4x")
    result = {
        "command": "python benchmarks/students.py --data FOLDER --weights FOLDER",
        "machine": Runtime("cpu").machine(),
        "versions": record.versions(),
        "teacher": {
            "architecture": network.card.architecture,
            "weights": parameters(network.module),
            "multiply_adds": multiply_adds(network.module, network.card.inputs),
            "accuracy": round(evaluate(network, test, device="cpu").percent, 2),
        },
        "rows": rows,
        "listed": [
            {"student": each.name, "weights": each.weights, "multiply_adds": each.multiply_adds, "file_bytes": each.file_bytes}
            for each in listed
        ],
        "seconds_to_list": round(time.monotonic() - began, 1),
    }
    write_text(given.out, json.dumps(result, indent=2) + "\n")
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
