"""One experiment from its teacher to the numbers beside a paper's, through the command line that a user has."""

import dataclasses
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from datafree.api.evaluate import evaluate
from datafree.core.runtime import Runtime
from datafree.data.sets import noise_set
from datafree.engine.progress import print_line
from datafree.networks.network import load
from datafree.recipes.experiments import Experiment
from datafree.reports import record

STORED = "stored-mnist"


def reproduce(
    experiment: Experiment,
    data: Path,
    runs: Path,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    teacher: Path | None = None,
    jobs: int = 1,
    device: str = "auto",
    command: str = "",
) -> dict[str, Any]:
    """Teach the teacher, or take `teacher`; distil a student a seed, one on the real data, one on noise; judge the last.

    `data` is the folder of the .npz files. Everything lies in `runs`, and the same call resumes it. `jobs` seeds are distilled
    at once, which changes wall times alone. Raises `ValueError` where the data is not there, or a part fails, which has then
    said why.
    """
    train, test = (data / f"{experiment.data}_{split}.npz" for split in ("train", "test"))
    for file in (train, test):
        if not file.exists():
            raise ValueError(
                f"{file} does not exist; put the images and labels of {experiment.task} there, as arrays `images` and `labels`."
            )
    where = f"--device {device}"
    taught = teacher or runs / "teacher.safetensors"
    if not taught.exists():
        _datafree(f"teach {_q(train)} --arch {experiment.teacher} {experiment.teach} {where} --seed 0 --out {_q(taught)}")
    noise = runs / "noise.safetensors"  # standard normal, in the teacher's network units
    if not noise.exists():
        noise_set(load(taught).card.inputs, experiment.noise_images, seed=0).save(noise)

    def distilled(name: str, flags: str) -> dict[str, Any]:
        line = f"distill {_q(taught)} --student {experiment.student} --out {_q(runs / name)} --eval {_q(test)} {where}"
        _datafree(f"{line} {flags}")
        found: dict[str, Any] = json.loads((runs / name / "run.json").read_text(encoding="utf-8"))["results"]
        return found

    stored = f"--recipe {STORED} {experiment.baseline} --method.path"
    flags = {
        "kd-real": f"{stored} {_q(train)} {experiment.real}",
        "kd-noise": f"{stored} {_q(noise)} --method.look.augment.crop 0",
    }
    flags |= {f"seed-{seed}": f"--recipe {experiment.recipe} --seed {seed} {experiment.distil}" for seed in seeds}
    with ThreadPoolExecutor(jobs) as pool:
        real, blind, *found = pool.map(distilled, flags.keys(), flags.values())
    return {
        "recipe": experiment.recipe,
        **({"label": experiment.label} if experiment.label else {}),
        "task": experiment.task,
        "teacher_arch": experiment.teacher,
        "student_arch": experiment.student,
        "command": command,
        "teacher_command": f"datafree teach TRAIN --arch {experiment.teacher} {experiment.teach}" if not teacher else "given",
        "jobs": jobs,
        "machine": Runtime(device).machine(),
        "versions": record.versions(),
        "paper": dataclasses.asdict(experiment.paper),
        "teacher": round(evaluate(taught, str(test), device=device).percent, 2),
        "baselines": {"kd_real": _last(real), "kd_noise": _last(blind)},
        "runs": [_row(seed, row) for seed, row in zip(seeds, found, strict=True)],
    }


def _row(seed: int, row: dict[str, Any]) -> dict[str, Any]:
    name = _metric(row)
    best = round(row[f"best_{name}_oracle"], 2)
    return {"seed": seed, "last": _last(row), "best_epoch": best, **{key: row[key] for key in COSTS}}


COSTS = ("rounds", "wall_s", "cpu_s", "peak_mb")


def _last(row: dict[str, Any]) -> float:
    return round(float(row[f"student_{_metric(row)}"]), 2)


def _metric(row: dict[str, Any]) -> str:
    return "miou" if "student_miou" in row else "accuracy"


def _q(path: Path) -> str:
    return shlex.quote(str(path))


def _datafree(line: str) -> None:
    """Run one command in a process of its own, so that its peak memory is its own."""
    print_line(f"$ datafree {line}")
    if subprocess.run([sys.executable, "-m", "datafree.cli", *shlex.split(line)], check=False).returncode:
        raise ValueError("A part of the experiment failed; what it said stands above. The same line goes on from there.")
