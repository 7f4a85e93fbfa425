"""What `datafree estimate` reads of every student that benchmarks/estimate_students.py left, beside what is true of it.

    python benchmarks/estimate_readings.py --runs runs/estimate --out benchmarks/results/estimate-runs.csv

One row a student: its case, run and moment, accuracy and agreement on real test images (percent), the teacher's accuracy on its
card, and the readings of each family of probes. The rows of cases whose probes are there already are made again from them.
"""

import argparse
import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from datafree.core.files import replace_atomically
from datafree.core.runtime import Runtime
from datafree.estimation.probes import kept_probes, make_probes, precision_for
from datafree.estimation.readings import read
from datafree.networks.saved.weights import fingerprint
from datafree.networks.whole import load

IMAGES = 128  # inversions of each teacher
EVERY = 3  # of the students that a run kept; the last always
TRUTH = ("accuracy", "agreement", "right_apart", "teacher_right_apart")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--cases", nargs="+")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    if given.out.exists():
        with given.out.open() as file:
            rows = [row for row in csv.DictReader(file) if given.cases and row["case"] not in given.cases]
    for case in given.cases or sorted(each.name for each in given.runs.iterdir() if each.is_dir()):
        rows += rows_of(given.runs / case, given.images)
        replace_atomically(given.out, lambda path, rows=rows: write(path, rows))


def rows_of(where: Path, images: int) -> list[dict[str, Any]]:
    """The rows of one case."""
    network = load(where / "teacher.safetensors")
    file = where / f"probes-{images}.safetensors"
    probes = kept_probes(file, network)
    if probes is None:
        precision = precision_for(network, torch.device("cpu"))
        probes = make_probes(network, images, Runtime("cpu", precision, 0))
        probes.save(file, fingerprint(network.module))
    assert network.card.validation is not None
    rows = []
    for truth in sorted(where.glob("*/truth.json")):
        students = json.loads(truth.read_text())
        for at in sorted({*range(0, len(students), EVERY), len(students) - 1}):
            found = students[at]
            student = load(where / found["file"])
            readings = read(network.module, student.module, probes, network.card.inputs, torch.device("cpu"))
            row = {"case": where.name, "run": truth.parent.name, "moment": f"{at + 1}/{len(students)}"}
            row |= {name: found[name] and round(found[name], 2) for name in TRUTH}
            row |= {"teacher": network.card.validation.accuracy, "classes": network.card.classes}
            for name, reading in readings.families.items():
                row |= {f"{name}_{field}": round(value, 4) for field, value in asdict(reading).items()}
            rows.append(row)
        print(where.name, truth.parent.name, len(students), flush=True)
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
