"""Which of STTSS's reconstructed choices carries its result: a small student for each of 36 combinations.

    python benchmarks/sttss_choices.py --data FOLDER --seeds 0

Small on purpose (2,000 images, 1,500 student steps), so the rows compare with each other and with nothing else. The teacher is
trained on the first 50,000 training images and everything is measured on the last 10,000: the recipe's settings come from this
table, so it does not look at the test set. Each combination is a run folder, so the same line resumes.
"""

import argparse
import csv
import itertools
import json
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from datafree import evaluate
from datafree.core.runtime import Runtime
from datafree.reports import record

FIT = 50_000  # training images that the teacher is trained on; the others measure
TEACH = "--arch lenet5 --inputs 1x32x32 --mean 0 --std 1 --epochs 15 --weight-decay 5e-4 --seed 0"
DISTIL = (
    "--student lenet5-half-zskd --recipe sttss-mnist-light --plan.pool-size 2000 --plan.warmup 20 --plan.synthesis-rounds 20 "
    "--plan.rounds 40 --plan.steps 75 --plan.eval-every 0 --plan.grid-every 0 --plan.save-every 40"
)
SIGMA, ACTIVATION = (0.5, 1.5, 3.0), (0.0, 0.05, 0.5)
FEATURE, BALANCED = ("literal", "pre-activation"), (False, True)


def main() -> None:
    """Run every combination that has not been run, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist_train.npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=1, help="students at once (default 1)")
    parser.add_argument("--runs", type=Path, default=Path("runs/sttss-choices"), help="folder of the run folders")
    arguments = parser.parse_args()
    folder: Path = arguments.runs
    folder.mkdir(parents=True, exist_ok=True)
    fit, held, teacher = folder / "fit.npz", folder / "held.npz", folder / "teacher.safetensors"
    if not teacher.exists():
        with np.load(arguments.data / "mnist_train.npz") as data:
            np.savez(fit, images=data["images"][:FIT], labels=data["labels"][:FIT])
            np.savez(held, images=data["images"][FIT:], labels=data["labels"][FIT:])
        _datafree(f"teach {fit} {TEACH} --out {teacher}")

    def choice(values: tuple[float, float, str, bool, int]) -> dict[str, Any]:
        sigma, activation, feature, balanced, seed = values
        name = f"sigma-{sigma:g}-activation-{activation:g}-{feature}-{'balanced' if balanced else 'as-drawn'}-seed-{seed}"
        out = folder / name
        flags = f"--method.sigma {sigma} --method.activation {activation} --method.feature {feature} --seed {seed}"
        flags += " --method.balanced" * balanced
        _datafree(f"distill {teacher} {DISTIL} {flags} --eval {held} --out {out}")
        results = json.loads((out / "run.json").read_text(encoding="utf-8"))["results"]
        with (out / "log.csv").open(encoding="utf-8") as file:
            filling = [row for row in csv.DictReader(file) if row["inversion_loss"]]
        return {
            "sigma": sigma,
            "activation": activation,
            "feature": feature,
            "balanced": balanced,
            "seed": seed,
            "last": round(results["student_accuracy"], 2),
            "largest_class": _mean(filling, "largest_class"),
            "target_entropy": _mean(filling, "target_entropy"),
            "inversion_loss": _mean(filling, "inversion_loss"),
            "wall_s": results["wall_s"],
        }

    with ThreadPoolExecutor(arguments.jobs) as pool:
        choices = list(pool.map(choice, itertools.product(SIGMA, ACTIVATION, FEATURE, BALANCED, arguments.seeds)))
    result = {
        "task": "MNIST, held-out part of the training set, lenet5 to lenet5-half-zskd; small on purpose",
        "command": f"python benchmarks/sttss_choices.py --data FOLDER --seeds {' '.join(map(str, arguments.seeds))}",
        "teacher_command": f"datafree teach FIT {TEACH}",
        "distil_command": f"datafree distill TEACHER {DISTIL}",
        "machine": Runtime("cpu").machine(),
        "versions": record.versions(),
        "teacher": round(evaluate(teacher, str(held), device="cpu").accuracy, 2),
        "choices": choices,
    }
    out = Path(__file__).parent / "results" / "sttss-choices.json"
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {out}")


def _mean(rows: list[dict[str, str]], name: str) -> float:
    return float(f"{np.mean([float(row[name]) for row in rows]):.4g}")


def _datafree(line: str) -> None:
    print(f"$ datafree {line}", flush=True)
    subprocess.run([sys.executable, "-m", "datafree.cli", *shlex.split(line)], check=True)


if __name__ == "__main__":
    main()
