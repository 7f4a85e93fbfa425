"""Every method, `auto`, and KD on real data and on noise, on every case, at equal CPU seconds: last student, second half.

    python benchmarks/grid.py --data FOLDER --weights FOLDER --runs runs/grid --cases fashion-resnet8 --seeds 0 1

FOLDER of data holds mnist, fashion_mnist, cifar10 and camvid128 as NAME_train.npz and NAME_test.npz; that of weights the
CIFAR-10 networks of a third party. Resumable: what is finished is not run again. Each run has one thread and the case's
seconds as its budget, schedule included. `--dev` holds out the last tenth of the training images in place of the test set:
settings are chosen on that, never on the test set. The rows of the cases that were run join those in the results file.
"""

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datafree import RECIPES, evaluate, load
from datafree.core.files import write_text
from datafree.core.runtime import Runtime
from datafree.data.sets import noise_set
from datafree.networks.inside.cost import FASTER, seconds_by_precision
from datafree.networks.sources import student_for
from datafree.reports import record

GREY = "--inputs 1x32x32"
COLOUR = "--inputs 3x32x32"
RESNET = "--mean .485 .456 .406 --std .229 .224 .225 --inputs 3x32x32 --classes 10"
STORED = "--plan.batch 64 --plan.ema-decay 0.99"
WATCHED = 1000  # images that judge a student during a run, of those that judge it at the end


@dataclass(frozen=True)
class Case:
    """A teacher and a student on known data; flags are those of the command line."""

    data: str
    student: str
    seconds: int  # of each run
    arch: str
    teach: str = ""  # flags of `datafree teach`; empty where weights are packed
    weights: str = ""  # file of a third party
    colour: bool = False
    segments: bool = False
    real_lr: float = 0.05  # of KD on real data and on noise, which diverges at 0.05 for some networks without batch norm


CASES = {
    "mnist-lenet5": Case("mnist", "lenet5-half", 300, "lenet5", f"{GREY} --epochs 15 --weight-decay 3e-3", real_lr=0.01),
    "fashion-lenet5": Case(
        "fashion_mnist", "lenet5-half", 300, "lenet5", f"{GREY} --epochs 15 --weight-decay 3e-3", real_lr=0.01
    ),
    "fashion-resnet8": Case(
        "fashion_mnist", "resnet8-half", 300, "resnet8", f"{GREY} --epochs 12 --lr 0.1 --flip --crop 2 --precision bf16"
    ),
    "fashion-groupnorm": Case(
        "fashion_mnist", "resnet8-gn-half", 300, "resnet8-gn", f"{GREY} --epochs 12 --lr 0.1 --flip --crop 2", real_lr=0.01
    ),
    "fashion-vit": Case(
        "fashion_mnist", "vit-mini-half", 300, "vit-mini", f"{GREY} --epochs 20 --lr 0.03 --flip --crop 2", real_lr=0.01
    ),
    "cifar10-vgg8": Case("cifar10", "vgg8-half", 900, "vgg8", f"{COLOUR} --epochs 6 --lr 0.1", colour=True),
    "cifar10-vgg8-plain": Case(
        "cifar10", "vgg8-plain-half", 900, "vgg8-plain", f"{COLOUR} --epochs 8 --lr 0.02", colour=True, real_lr=0.01
    ),
    "cifar10-resnet20": Case("cifar10", "resnet20-half", 900, "resnet20", weights="resnet20-12fca82f.th", colour=True),
    "cifar10-resnet56": Case("cifar10", "resnet20", 900, "resnet56", weights="resnet56-4bfd9763.th", colour=True),
    "camvid": Case(
        "camvid128",
        "compact-segmenter-half",
        900,
        "compact-segmenter",
        "--inputs 3x64x64 --mean .5 .5 .5 --std .5 .5 .5 --epochs 120 --batch 16 --lr 0.1 --weight-decay 3e-3 --precision bf16",
        colour=True,
        segments=True,
    ),
}


GREY_RECIPES = {
    "dfad": "dfad-mnist-light",
    "sttss": "sttss-mnist-light",
    "dafl": "dafl-mnist-light",
    "zskt": "zskt-mnist-light",
    "procedural": "procedural-light",
}
COLOUR_RECIPES = {"dfad": "dfad-cifar10", "procedural": "procedural-light-colour"}
RECIPES_OF = {
    "dfq": "dfq-light",
    "fast": "fast-light",
    "nayer": "nayer-light",
    "csd": "csd-cifar10",
    "cmi": "cmi-cifar10",
}
"""The recipe that stands for a method, by the case's kind of images."""


def recipe_of(method: str, case: Case) -> str:
    """The recipe by which the case runs `method`, if that is not itself the name of one."""
    if case.segments and method == "dfad":
        return "dfad-camvid-light"
    return {**RECIPES_OF, **(COLOUR_RECIPES if case.colour else GREY_RECIPES)}.get(method, method)


def flags_of(method: str, case: Case, real: Path, noise: Path) -> str:
    """What `datafree distill` is given for `method`, which is evaluated about 20 times.

    KD computes in the precision that `auto` takes for these networks on this machine.
    """
    if method == "auto":
        return ""
    crop = "--method.look.augment.crop 2 --method.look.augment.flip" if case.colour else "--method.look.augment.crop 2"
    if case.segments:
        crop = "--method.look.augment.crop 8 --method.look.augment.flip"
    recipe = "stored-mnist" if method.startswith("kd-") else recipe_of(method, case)
    stored = f"--precision {(real.parent / 'precision').read_text()} --plan.lr {case.real_lr:g} {STORED}"
    given = {
        "kd-real": f"{stored} --method.path {shlex.quote(str(real))} {crop}",
        "kd-noise": f"{stored} --method.path {shlex.quote(str(noise))} --method.look.augment.crop 0",
    }.get(method, "")
    return f"--recipe {recipe} {given} --plan.eval-every {max(1, RECIPES[recipe].plan.rounds // 20)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="folder of the third party's networks")
    parser.add_argument("--runs", type=Path, default=Path("runs/grid"))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--methods", nargs="+", default=["kd-real", "kd-noise", "auto"], help="these, methods, or recipes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--seconds", type=int, help="in place of each case's")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--dev", action="store_true", help="judge by held-out training images")
    parser.add_argument("--out", type=Path, help="results file, whose other rows stay")
    given = parser.parse_args()
    if given.out and (given.dev or given.seconds):
        parser.error("--out is for runs of each case's own time on the test set; leave out --dev and --seconds, or --out")
    os.environ["OMP_NUM_THREADS"] = "1"
    done = {key_of(each) for each in rows_of(given.out)}
    work = [(name, method, seed) for name in given.cases for method in given.methods for seed in given.seeds]
    work = [each for each in work if each not in done]
    for name in given.cases:
        prepare(name, given)
    with ThreadPoolExecutor(given.jobs) as pool:
        for each in pool.map(lambda each: row(*each, given), work):
            print("{case:<18} {method:<24} {seed} last {last:6.2f} agreement {agreement:6.2f} {cpu_s:.0f} s".format(**each))
            if given.out:
                join(given.out, each)


def folder(name: str, given: argparse.Namespace) -> Path:
    return Path(given.runs) / ("dev" if given.dev else "test") / name


def prepare(name: str, given: argparse.Namespace) -> None:
    """The case's data, teacher and noise, each made once."""
    case, where = CASES[name], folder(name, given)
    where.mkdir(parents=True, exist_ok=True)
    if not (where / "test.npz").exists():
        train, test = (dict(np.load(Path(given.data) / f"{case.data}_{split}.npz")) for split in ("train", "test"))
        if given.dev:
            held = len(train["images"]) * 9 // 10
            each = ("images", "labels")
            test = train | {key: train[key][held:] for key in each}
            train = train | {key: train[key][:held] for key in each}
        some = np.random.default_rng(0).permutation(len(test["images"]))[:WATCHED]  # some sets are sorted by class
        few = test | {key: test[key][some] for key in ("images", "labels")}
        for split, arrays in (("train", train), ("watched", few), ("test", test)):
            np.savez(where / f"{split}.npz", **arrays)
    teacher = where / "teacher.safetensors"
    if not teacher.exists() and case.weights:
        datafree(f"pack {shlex.quote(str(given.weights / case.weights))} --arch {case.arch} {RESNET} --out {teacher}")
    elif not teacher.exists():
        datafree(f"teach {where / 'train.npz'} --arch {case.arch} {case.teach} --device cpu --out {teacher}")
    taught = load(teacher)
    if not (where / "noise.safetensors").exists():
        noise_set(taught.card.inputs, 4000 if case.segments else 20_000, seed=0).save(where / "noise.safetensors")
    if not (where / "precision").exists():
        student, x = student_for(case.student, taught.card).module, torch.randn(64, *taught.card.inputs.shape)
        seconds = seconds_by_precision(taught.module.eval(), student, x)
        (where / "precision").write_text("bf16" if seconds["fp32"] > FASTER * seconds["bf16"] else "fp32")


def row(name: str, method: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One run and what came of it."""
    case, where = CASES[name], folder(name, given)
    seconds, out = given.seconds or case.seconds, where / f"{method}-{given.seconds or case.seconds}s-{seed}"
    flags = flags_of(method, case, where / "train.npz", where / "noise.safetensors")
    line = f"distill {where / 'teacher.safetensors'} --student {case.student} {flags} --budget {seconds}s-cpu --seed {seed} "
    line += f"--eval {where / 'watched.npz'} --device cpu --out {out}"
    datafree(line)
    found = json.loads((out / "run.json").read_text())
    results, plan = found["results"], found["identity"]["plan"]
    score = evaluate(out / "student.safetensors", str(where / "test.npz"), against=where / "teacher.safetensors", device="cpu")
    with (out / "log.csv").open() as log:
        curve = [float(each[score.name]) for each in csv.DictReader(log) if each.get(score.name)]
    half = curve[len(curve) // 2 :]
    return {
        "case": name,
        "method": method,
        "seed": seed,
        "last": round(score.percent, 2),
        "second_half_mean": round(sum(half) / len(half), 2) if len(half) > 1 else None,
        "agreement": round(score.agreement or 0.0, 2),
        "teacher_right_apart": score.other_right_apart and round(score.other_right_apart, 2),
        "student_right_apart": score.right_apart and round(score.right_apart, 2),
        "cpu_s": round(results["cpu_s"], 1),
        "student_steps": (results["rounds"] - plan["warmup"]) * plan["steps"],
        "images": results["images"],
        "machine": f"{Runtime('cpu').machine()}, torch {torch.__version__}",
        "command": "datafree " + line.replace(str(where), "CASE"),
    }


Key = tuple[str, str, int]


def key_of(row: dict[str, Any]) -> Key:
    return row["case"], row["method"], row["seed"]


def rows_of(file: Path | None) -> list[dict[str, Any]]:
    """The rows of a results file, none if it does not exist."""
    return json.loads(file.read_text())["rows"] if file and file.exists() else []


def join(file: Path, row: dict[str, Any]) -> None:
    """Put a row into the results file, in place of an earlier one of the same case, method and seed."""
    rows = {key_of(each): each for each in [*rows_of(file), row]}
    command = "python benchmarks/grid.py --data FOLDER --weights FOLDER --out benchmarks/results/grid.json"
    result = {"command": command, "machine": Runtime("cpu").machine(), "versions": record.versions()}
    write_text(file, json.dumps(result | {"rows": [rows[each] for each in sorted(rows)]}, indent=2) + "\n")


def datafree(line: str) -> None:
    print(f"$ datafree {line}", flush=True)
    if subprocess.run([sys.executable, "-m", "datafree.cli", *shlex.split(line)], check=False).returncode:
        raise SystemExit("That part failed; the same line goes on from there.")


if __name__ == "__main__":
    main()
