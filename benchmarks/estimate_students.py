"""Students of every quality with what is true of them, on which `datafree estimate` is fitted and judged.

    python benchmarks/estimate_students.py --data FOLDER --weights FOLDER --runs runs/estimate

FOLDER of data holds mnist, fashion_mnist and cifar10 as NAME_train.npz and NAME_test.npz, that of weights the CIFAR-10
networks of a third party. For each case a teacher, whose card gets a fingerprint of half of the test images, and runs of four
recipes, each of which keeps its student at moments of its way; the other half of the test images says what is true. Resumable:
what is finished is not run again. `benchmarks/estimate.py` reads what this leaves.
"""

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import datafree
from datafree.api.run import Run
from datafree.core.files import write_text
from datafree.data.digits import digits
from datafree.data.sets import noise_set
from datafree.engine.supervised import Training
from datafree.networks.network import Network

RESNET = datafree.InputSpec(shape=(3, 32, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
MOMENTS = 20  # of each run at which its student is kept


@dataclass(frozen=True)
class Case:
    """A teacher and a student on known data."""

    data: str
    arch: str
    student: str
    epochs: int = 0  # 0: a third party's weights
    lr: float = 0.05
    weights: str = ""
    seconds: int = 120  # of the longest run, CPU time
    real_lr: float = 0.02


CASES = {
    "digits-cnn": Case("digits", "small-cnn", "small-cnn-half", 20, seconds=20),
    "mnist-lenet5": Case("mnist", "lenet5", "lenet5-half", 3, seconds=60, real_lr=0.01),
    "mnist-resnet8": Case("mnist", "resnet8", "resnet8-half", 2, 0.1),
    "fashion-lenet5": Case("fashion_mnist", "lenet5", "lenet5-half", 5, seconds=90, real_lr=0.01),
    "fashion-resnet8": Case("fashion_mnist", "resnet8", "resnet8-half", 4, 0.1),
    "fashion-groupnorm": Case("fashion_mnist", "resnet8-gn", "resnet8-gn-half", 4, 0.1, real_lr=0.01),
    "fashion-vit": Case("fashion_mnist", "vit-mini", "vit-mini-half", 6, 0.03, real_lr=0.01),
    "cifar10-resnet8": Case("cifar10", "resnet8", "resnet8-half", 6, 0.1),
    "cifar10-resnet20": Case("cifar10", "resnet20", "resnet20-half", weights="resnet20-12fca82f.th", seconds=300),
}
NO_NORMS = ("lenet5", "resnet8-gn", "vit-mini")  # architectures without statistics for NAYER; DAFL takes its place
# Recipe or kind of images, and its share of the case's seconds.
RUNS = {"auto": 1.0, "other": 0.6, "procedural": 0.4, "kd-real": 0.25, "kd-noise": 0.15}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/estimate"))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    for name in given.cases:
        where = given.runs / name
        prepare(CASES[name], where, given)
        for run, share in RUNS.items():
            if (where / run / "truth.json").exists():
                continue
            students(CASES[name], run, share, where)


def prepare(case: Case, where: Path, given: argparse.Namespace) -> None:
    """The case's data and its teacher, whose card says what it did on the first half of the test images."""
    if (where / "teacher.safetensors").exists():
        return
    where.mkdir(parents=True, exist_ok=True)
    train, test = (arrays_of(case, split, given.data) for split in ("train", "test"))
    order = np.random.default_rng(0).permutation(len(test["images"]))
    half = len(order) // 2
    for part, rows in (("card", order[:half]), ("truth", order[half:]), ("watched", order[half : half + 500])):
        np.savez(where / f"{part}.npz", **(test | {key: test[key][rows] for key in ("images", "labels")}))
    np.savez(where / "train.npz", **train)
    if case.weights:
        network = datafree.pack(given.weights / case.weights, case.arch, RESNET, 10)
    else:
        shape = {"cifar10": (3, 32, 32), "digits": None}.get(case.data, (1, 32, 32))
        training = Training(epochs=case.epochs, lr=case.lr, flip=case.data not in ("mnist", "digits"))
        network = datafree.teach(
            str(where / "train.npz"), case.arch, training=training, shape=shape, device="cpu", precision="bf16", quiet=True
        )
    datafree.validate(network, str(where / "card.npz"), device="cpu").save(where / "teacher.safetensors")
    noise_set(network.card.inputs, 10_000, seed=0).save(where / "noise.safetensors")


def arrays_of(case: Case, split: str, data: Path) -> dict[str, Any]:
    """Images and labels of a file, or scikit-learn's digits."""
    if case.data != "digits":
        return dict(np.load(data / f"{case.data}_{split}.npz"))
    found = digits()[split == "test"]
    return {"images": found.pixels[:, 0].numpy(), "labels": found.labels.numpy()}


def students(case: Case, run: str, share: float, where: Path) -> None:
    """One run that keeps its student on its way, and the truth of each."""
    out, seconds = where / run, round(share * case.seconds)
    kept = where / f"{run}-kept"

    def keep(self: Run, network: nn.Module) -> dict[str, float]:
        Network(network, self.card).save(kept / f"{len([*kept.glob('*')]):03}.safetensors")
        return {}

    Run._evaluate = keep  # type: ignore[method-assign]
    recipe = recipe_of(case, run, where)
    arguments: dict[str, Any] = {"budget": f"{seconds}s-cpu", "seed": 0, "device": "cpu", "quiet": True, "out": out}
    datafree.distill(
        where / "teacher.safetensors", case.student, recipe=recipe, eval_data=str(where / "watched.npz"), **arguments
    )
    rows = []
    for file in [*sorted(kept.glob("*")), out / "student.safetensors"]:
        found = datafree.evaluate(file, str(where / "truth.npz"), against=where / "teacher.safetensors", device="cpu")
        rows.append(
            {
                "file": str(file.relative_to(where)),
                "accuracy": found.percent,
                "agreement": found.agreement,
                "right_apart": found.right_apart,
                "teacher_right_apart": found.other_right_apart,
            }
        )
    write_text(out / "truth.json", json.dumps(rows, indent=1))
    print(where.name, run, f"{seconds} s", [round(row["accuracy"], 1) for row in rows], flush=True)


def recipe_of(case: Case, run: str, where: Path) -> str | datafree.Recipe:
    """The recipe, evaluated `MOMENTS` times; `auto` chooses that itself."""
    if run == "auto":
        return "auto"
    if run in ("procedural", "other"):
        procedural = "procedural-light-colour" if case.data == "cifar10" else "procedural-light"
        other = "dafl-mnist-light" if case.arch in NO_NORMS else "nayer-light"
        recipe = datafree.RECIPES[procedural if run == "procedural" else other]
        return recipe.changed(None, recipe.plan.replaced(eval_every=max(1, recipe.plan.rounds // MOMENTS)))
    recipe = datafree.RECIPES["stored-mnist"]
    path = where / ("train.npz" if run == "kd-real" else "noise.safetensors")
    look = {"temperature": 4.0, "augment": {"crop": 2, "flip": case.data not in ("mnist", "digits")}}
    plan = recipe.plan.replaced(lr=case.real_lr, batch=64, ema_decay=0.99, eval_every=max(1, recipe.plan.rounds // MOMENTS))
    return recipe.changed(recipe.method.replaced(path=path, look=look), plan)


if __name__ == "__main__":
    main()
