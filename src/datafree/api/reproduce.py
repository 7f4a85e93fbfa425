"""The function `reproduce`: one experiment, from its teacher to the paper's number, through the command line."""

import dataclasses
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
from datafree.engine.parts import parts_beside
from datafree.engine.progress import print_line
from datafree.engine.record import read_record
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
    """Run an experiment: train the teacher, distil one student a seed, one on real data and one on noise, evaluate the last.

    The same call again resumes it.

    Args:
        experiment: an entry of `EXPERIMENTS`: data, networks, recipe, flags, and the paper's number.
        data: folder of the labelled `.npz` files. They train and evaluate the teacher, evaluate the students, and train only
            the student on real data.
        runs: folder of the teacher and of all run folders.
        seeds: seeds of the students.
        teacher: network file of a trained teacher; None: one is trained.
        jobs: number of students distilled at the same time, which affects only wall times.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        command: command line to store in the result.

    Returns:
        The result as JSON values: last and best accuracy or mIoU of each student, of the teacher and the baselines, in percent,
        wall and CPU time in seconds, peak memory in MiB, and the paper's number.

    Raises:
        ValueError: the data do not exist, or a command failed; it has printed the reason.
    """
    train, test = (data / f"{experiment.data}_{split}.npz" for split in ("train", "test"))
    for file in (train, test):
        if not file.exists():
            raise ValueError(
                f"{file} does not exist; put the images and labels of {experiment.task} there, as arrays `images` and `labels`."
            )
    where = f"--device {device}"
    file = teacher or runs / "teacher.safetensors"
    unfinished = teacher is None and parts_beside(file).exists()  # a kill came before teach had tidied up
    if not file.exists() or unfinished:
        _run_command(
            f"teach {_quoted(train)} --arch {experiment.teacher} {experiment.teach} {where} --seed 0 --out {_quoted(file)}"
        )
    noise = runs / "noise.safetensors"  # standard normal, in the teacher's network units
    if not noise.exists():
        noise_set(load(file).card.inputs, experiment.noise_images, seed=0).save(noise)

    def distilled(name: str, flags: str) -> dict[str, Any]:
        out = f"--out {_quoted(runs / name)} --eval {_quoted(test)} {where}"
        _run_command(f"distill {_quoted(file)} --student {experiment.student} {out} {flags}")
        results: dict[str, Any] = read_record(runs / name / "run.json")["results"]
        return results

    stored = f"--recipe {STORED} {experiment.baseline} --method.path"
    flags = {
        "kd-real": f"{stored} {_quoted(train)} {experiment.real}",
        "kd-noise": f"{stored} {_quoted(noise)} --method.look.augment.crop 0",
    }
    flags |= {f"seed-{seed}": f"--recipe {experiment.recipe} --seed {seed} {experiment.distil}" for seed in seeds}
    with ThreadPoolExecutor(jobs) as pool:
        on_real, on_noise, *students = pool.map(distilled, flags.keys(), flags.values())
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
        "teacher": round(evaluate(file, str(test), device=device).percent, 2),
        "baselines": {"kd_real": _last(on_real), "kd_noise": _last(on_noise)},
        "runs": [_row(seed, results) for seed, results in zip(seeds, students, strict=True)],
    }


def _row(seed: int, results: dict[str, Any]) -> dict[str, Any]:
    best = round(results[f"best_{_metric(results)}_oracle"], 2)
    compared = {key: None if results[key] is None else round(results[key], 2) for key in COMPARED if key in results}
    return {"seed": seed, "last": _last(results), "best_epoch": best, **compared, **{key: results[key] for key in COSTS}}


COMPARED = ("agreement", "teacher_right_apart", "student_right_apart")  # percent
COSTS = ("rounds", "wall_s", "cpu_s", "peak_mb")  # rounds, seconds, seconds, MiB


def _last(results: dict[str, Any]) -> float:
    """Accuracy or mIoU of the last student, percent."""
    return round(float(results[f"student_{_metric(results)}"]), 2)


def _metric(results: dict[str, Any]) -> str:
    return "miou" if "student_miou" in results else "accuracy"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _run_command(line: str) -> None:
    """Run one datafree command in a process of its own, so that its peak memory is measured by itself."""
    print_line(f"$ datafree {line}")
    if subprocess.run([sys.executable, "-m", "datafree.cli", *shlex.split(line)], check=False).returncode:
        raise ValueError(
            f"A part of the experiment failed, with the reason printed above: datafree {line.split()[0]}. "
            "Remove the cause; the same command then resumes the experiment."
        )
