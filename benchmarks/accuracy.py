"""Teach a teacher, distil students over seeds, run the baselines, and write one JSON of results.

    python benchmarks/accuracy.py dfad-mnist-light --data FOLDER --seeds 0 1 2

Everything goes through the command line a user has. Each part is a run folder, so the same line again resumes. Several
seeds at once (--jobs) give the same students; only the wall times tell of it.
"""

import argparse
import json
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datafree import load, record
from datafree.runtime import Runtime
from datafree.setfile import noise_set
from datafree.verbs import evaluate

NOISE_IMAGES = 60_000
STORED = "stored-mnist"


@dataclass(frozen=True)
class Experiment:
    """A row of the README's table."""

    recipe: str
    task: str
    data: str  # FOLDER/{data}_train.npz and {data}_test.npz
    teacher: str
    student: str
    teach: str  # flags of `datafree teach`
    paper: dict[str, Any]
    distil: str = ""  # flags of `datafree distill` that change the recipe
    baseline: str = ""  # flags of `datafree distill` in the two baselines, on real data and on noise


_DFAD = "Fang et al. 2019, arXiv 1912.11006, authors' README"
_STTSS = "Wang 2021, arXiv 2104.04868"
_UNIT_PIXELS = "--inputs 1x32x32 --mean 0 --std 1 --epochs 15 --weight-decay 5e-4"  # as ZSKD: inputs in [0, 1]
EXPERIMENTS = {
    "dfad-mnist-light": Experiment(
        recipe="dfad-mnist-light",
        task="MNIST",
        data="mnist",
        teacher="lenet5",
        student="lenet5-half",
        teach="--inputs 1x32x32 --epochs 15 --weight-decay 3e-3",
        paper={"value": 98.3, "kind": "best epoch", "source": _DFAD},
    ),
    # What the teacher decides: the same with the weight decay that teachers of this size are mostly taught with.
    "dfad-mnist-light-sharp-teacher": Experiment(
        recipe="dfad-mnist-light",
        task="MNIST, teacher's weight decay 5e-4",
        data="mnist",
        teacher="lenet5",
        student="lenet5-half",
        teach="--inputs 1x32x32 --epochs 15 --weight-decay 5e-4",
        paper={"value": 98.3, "kind": "best epoch", "source": _DFAD},
    ),
    "dfad-fashion-mnist": Experiment(
        recipe="dfad-mnist-light",
        task="Fashion-MNIST",
        data="fashion_mnist",
        teacher="lenet5",
        student="lenet5-half",
        teach="--inputs 1x32x32 --epochs 15 --weight-decay 3e-3",
        paper={"value": None, "kind": "best epoch", "source": "no number published"},
    ),
    "sttss-mnist": Experiment(
        recipe="sttss-mnist-light",
        task="MNIST",
        data="mnist",
        teacher="lenet5",
        student="lenet5-half-zskd",
        teach=_UNIT_PIXELS,
        paper={"value": 99.08, "kind": "as reported", "source": _STTSS},
    ),
    "sttss-fashion-mnist": Experiment(
        recipe="sttss-mnist-light",
        task="Fashion-MNIST",
        data="fashion_mnist",
        teacher="lenet5",
        student="lenet5-half-zskd",
        teach=_UNIT_PIXELS,
        paper={"value": 79.62, "kind": "ZSKD", "source": "Nayak et al. 2019, arXiv 1905.08114; none published for STTSS"},
    ),
    "sttss-cifar10-small": Experiment(
        recipe="sttss-cifar10",
        task="CIFAR-10, small: 4,000 images of 100 steps (full size: 40,000 of 1,500), each student sees 192,000, bf16",
        data="cifar10",
        teacher="alexnet",
        student="alexnet-half",
        teach="--mean 0 --std 1 --epochs 15 --lr 0.02 --schedule one-cycle --precision bf16",
        paper={"value": 73.91, "kind": "as reported", "source": _STTSS},
        distil="--precision bf16 --method.noise clouds --method.steps 100 --method.lr 0.03 --method.augment.jitter 0.5 "
        "--plan.keep 4000 --plan.warmup 40 --plan.fill 40 --plan.rounds 90 --plan.steps 60 --plan.batch 64",
        # As many images as the student above sees; by Adam, since SGD on noise ended in NaN.
        baseline="--precision bf16 --plan.rounds 15 --plan.optimizer adam --plan.lr 1e-3 --plan.weight-decay 0",
    ),
}


def main() -> None:
    """Run one experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=EXPERIMENTS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the .npz files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="seeds distilled at once (default 1)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the run folders lie (default runs)")
    arguments = parser.parse_args()
    experiment, folder = EXPERIMENTS[arguments.name], arguments.runs / arguments.name
    train, test = (arguments.data / f"{experiment.data}_{split}.npz" for split in ("train", "test"))
    teacher = folder / "teacher.safetensors"
    if not teacher.exists():
        _datafree(f"teach {train} --arch {experiment.teacher} {experiment.teach} --seed 0 --out {teacher}")
    noise = _noise(folder / "noise.safetensors", teacher)

    def distilled(name: str, flags: str) -> dict[str, Any]:
        _datafree(f"distill {teacher} --student {experiment.student} --out {folder / name} --eval {test} {flags}")
        found: dict[str, Any] = json.loads((folder / name / "run.json").read_text(encoding="utf-8"))["results"]
        return found

    flags = {
        "kd-real": f"--recipe {STORED} --method.path {train} {experiment.baseline}",
        "kd-noise": f"--recipe {STORED} --method.path {noise} --method.augment.crop 0 {experiment.baseline}",
    }
    flags |= {f"seed-{seed}": f"--recipe {experiment.recipe} --seed {seed} {experiment.distil}" for seed in arguments.seeds}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        real, blind, *found = pool.map(distilled, flags.keys(), flags.values())
    runs = []
    for seed, row in zip(arguments.seeds, found, strict=True):
        runs.append(
            {
                "seed": seed,
                "last": round(row["student_accuracy"], 2),
                "best_epoch": round(row["best_accuracy_oracle"], 2),
                "rounds": row["rounds"],
                "wall_s": row["wall_s"],
                "cpu_s": row["cpu_s"],
                "peak_mb": row["peak_mb"],
            }
        )
    result = {
        "recipe": experiment.recipe,
        "task": experiment.task,
        "teacher_arch": experiment.teacher,
        "student_arch": experiment.student,
        "command": " ".join(
            map(str, ("python benchmarks/accuracy.py", arguments.name, "--data FOLDER --seeds", *arguments.seeds))
        ),
        "teacher_command": f"datafree teach TRAIN --arch {experiment.teacher} {experiment.teach}",
        "jobs": arguments.jobs,
        "machine": Runtime("cpu").machine(),
        "versions": record.versions(),
        "paper": experiment.paper,
        "teacher": round(evaluate(teacher, str(test), device="cpu").accuracy, 2),
        "baselines": {name: round(row["student_accuracy"], 2) for name, row in (("kd_real", real), ("kd_noise", blind))},
        "runs": runs,
    }
    out = Path(__file__).parent / "results" / f"{arguments.name}.json"
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {out}")


def _datafree(line: str) -> None:
    print(f"$ datafree {line}", flush=True)
    subprocess.run([sys.executable, "-m", "datafree.cli", *shlex.split(line)], check=True)  # its own peak memory


def _noise(path: Path, teacher: Path) -> Path:
    """A set of standard normal noise, in the teacher's network units."""
    if not path.exists():
        noise_set(load(teacher).card.inputs, NOISE_IMAGES, seed=0).save(path)
    return path


if __name__ == "__main__":
    main()
