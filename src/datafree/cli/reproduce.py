"""The command `datafree reproduce`."""

import json
from pathlib import Path

import datafree
from datafree.core.files import write_text
from datafree.core.settings import unknown
from datafree.core.terminal import show
from datafree.recipes.experiments import EXPERIMENTS
from datafree.reports.verdict import verdict


def reproduce(
    name: str,
    *,
    data: Path,
    seeds: int = 3,
    teacher: Path | None = None,
    runs: Path = Path("runs"),
    out: Path | None = None,
    jobs: int = 1,
    device: str = "auto",
) -> None:
    """Run a paper's experiment, and compare the last student with the paper's number; the same command resumes.

    Args:
        name: The experiment, in most cases named as its recipe; an unknown name lists them.
        data: Folder of the labelled .npz files, for example mnist_train.npz and mnist_test.npz. They train the teacher and
            evaluate all networks; no student is trained on them, except the one on real data for comparison.
        seeds: Number of students that are distilled, with seeds 0, 1, ...
        teacher: Network file of a trained teacher; left out: one is trained.
        runs: Folder of the experiments; this one writes RUNS/NAME.
        out: JSON file of the result; left out: RUNS/NAME/result.json.
        jobs: Number of students that are distilled at the same time.
        device: auto, cpu, cuda, cuda:1, ...
    """
    if name not in EXPERIMENTS:
        raise unknown("experiment", name, EXPERIMENTS)
    if seeds < 1:
        raise ValueError(f"--seeds {seeds} gives no student; pass 1 or more.")
    teacher_flag = " --teacher FILE" if teacher else ""
    command = f"datafree reproduce {name} --data FOLDER{teacher_flag} --seeds {seeds}"
    result = datafree.reproduce(
        EXPERIMENTS[name], data, runs / name, range(seeds), teacher=teacher, jobs=jobs, device=device, command=command
    )
    file = out or runs / name / "result.json"
    write_text(file, json.dumps(result, indent=2) + "\n", parents=True)
    show(*verdict(result).split("\n"), f"wrote {file}")
