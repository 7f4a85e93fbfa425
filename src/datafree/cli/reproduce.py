"""`datafree reproduce`."""

import json
from pathlib import Path

import datafree
from datafree.core.files import write_text
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
    """Run a paper's experiment, and put our last student beside its number; the same line again resumes.

    Parameters
    ----------
    name
        The experiment, mostly called as its recipe; a name that is not known lists them.
    data
        Folder of the labelled .npz files, mnist_train.npz and mnist_test.npz say. They teach the teacher and judge; the
        student never sees them, but for the one that is distilled on them for comparison.
    seeds
        Students that are distilled, by seeds 0, 1, ...
    teacher
        A network file to take in place of teaching one.
    runs
        Folder of the run folders; this experiment's lie in one of its name.
    out
        Where the JSON of the results goes; left out: RUNS/NAME/result.json.
    jobs
        Students that are distilled at once.
    device
        auto, cpu, cuda, cuda:1, ...
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"No experiment is named {name!r}; there are {', '.join(EXPERIMENTS)}.")
    if seeds < 1:
        raise ValueError(f"--seeds {seeds} is no student; give 1 or more.")
    given = " --teacher FILE" if teacher else ""
    command = f"datafree reproduce {name} --data FOLDER{given} --seeds {seeds}"
    result = datafree.reproduce(
        EXPERIMENTS[name], data, runs / name, range(seeds), teacher=teacher, jobs=jobs, device=device, command=command
    )
    file = out or runs / name / "result.json"
    write_text(file, json.dumps(result, indent=2) + "\n")
    print(verdict(result))
    print(f"wrote {file}")
