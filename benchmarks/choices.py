"""What each choice that `auto` makes brings: one student for each, by the same CPU seconds, on held-out training images.

    python benchmarks/choices.py --data FOLDER --case fashion-resnet8 --seconds 150

Each row differs from the first in what its name says. One seed and short runs: the rows compare with each other and with
nothing else. Run folders are kept, so the same line resumes. The sizes are those that `auto` took for the grid.
"""

import argparse
import csv
import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from grid import CASES, folder, prepare

from datafree import Blend, Plan, Recipe, distill, evaluate
from datafree.core.files import write_text
from datafree.core.runtime import Runtime
from datafree.engine.method import Method
from datafree.recipes import find_recipe
from datafree.recipes.plans import ADAM
from datafree.reports import record

Change = Callable[[Method, Plan], tuple[Method, Plan]]


def method(**changes: Any) -> Change:
    return lambda method, plan: (method.replaced(**changes), plan)


def plan(**changes: Any) -> Change:
    return lambda method, plan: (method, plan.replaced(**changes))


def steps(n: int) -> Change:
    """n steps of a batch of images, and as many images as take the same time."""
    return lambda method, plan: (
        method.replaced(inversion={"steps": n}),
        plan.replaced(images_per_round=max(8, plan.images_per_round * 5 // n)),
    )


def candidates(n: int) -> Change:
    """Each image chosen from n, and as many images as take the same time."""
    return lambda method, plan: (
        method.replaced(supply={"candidates": n}),
        plan.replaced(images_per_round=plan.images_per_round * 16 // n),
    )


OWN = "auto's own"
FAST: dict[str, Change] = {
    OWN: method(),
    "no mixup": method(look={"mixup": 0.0}),
    "mixup half the time, CutMix the other half": method(look={"mixup": 0.5, "cutmix": 0.5}),
    "classes exactly balanced": method(inversion={"balanced": True}),
    "adversary from the start": method(adversary={"weight": 1.0}),
    "adversary that rises from a tenth to a half of the run": method(
        adversary={"weight": 1.0, "rise_from": 0.1, "rise_until": 0.5}
    ),
    "statistics without history": method(inversion={"history": 0.0}),
    "a third of the images procedural": lambda method, plan: (Blend(host=method, share=1 / 3), plan),
    "2 steps an image": steps(2),
    "10 steps an image": steps(10),
    "20 steps an image": steps(20),
    "no meta-learning: one generator, trained on": method(meta="none"),
    "temperature 4 in place of 20": method(look={"temperature": 4.0}),
    "averaged student": plan(ema_decay=0.998),
}
PROCEDURAL: dict[str, Change] = {
    OWN: method(),
    "no image symmetric": method(supply={"symmetric": 0.0}),
    "all images symmetric": method(supply={"symmetric": 1.0}),
    "chosen from 4": candidates(4),
    "chosen from 48": candidates(48),
    "not chosen": candidates(1),
    "no picture but networks of sines": method(supply={"families": ("cppn",)}),
    "mixup always": method(look={"mixup": 1.0}),
    "no mixup": method(look={"mixup": 0.0}),
    "temperature 4": method(look={"temperature": 4.0}),
    "temperature 20": method(look={"temperature": 20.0}),
    "half the student's rate": lambda method, plan: (method, plan.replaced(lr=plan.lr / 2)),
    "twice the student's rate": lambda method, plan: (method, plan.replaced(lr=plan.lr * 2)),
}


@dataclass(frozen=True)
class Setting:
    """What `auto` took for a case of the grid, and what is changed of it."""

    recipe: str
    plan: dict[str, Any]
    choices: dict[str, Change]
    look: dict[str, Any] = field(default_factory=dict)


SETTINGS = {
    "fashion-resnet8": Setting("fast-light", {"batch": 64, "steps": 15, "images_per_round": 33}, FAST),
    "cifar10-resnet20": Setting("fast-light", {"batch": 64, "steps": 13, "images_per_round": 34}, FAST),
    "fashion-groupnorm": Setting(
        "procedural-light", {"batch": 64, "steps": 12, "images_per_round": 20, "lr": 0.1, "ema_decay": 0.99}, PROCEDURAL
    ),
    "fashion-vit": Setting(
        "procedural-light",
        {"batch": 64, "steps": 7, "images_per_round": 13, "ema_decay": 0.99, **ADAM, "lr": 3e-3},
        PROCEDURAL,
        {"temperature": 4.0, "mixup": 0.0},
    ),
}


def main() -> None:
    """Run every choice that has not been run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="as for grid.py")
    parser.add_argument("--weights", type=Path, help="as for grid.py")
    parser.add_argument("--runs", type=Path, default=Path("runs/grid"))
    parser.add_argument("--case", choices=SETTINGS, default="fashion-resnet8")
    parser.add_argument("--seconds", type=int, default=150)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.dev = True
    os.environ["OMP_NUM_THREADS"] = "1"
    prepare(given.case, given)
    # Fresh processes, since CPU time is that of a process, and threads are counted when torch is imported.
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        rows = list(pool.map(partial(row, given=given), SETTINGS[given.case].choices))
    result = {
        "task": f"{given.case} of benchmarks/grid.py, judged by held-out training images; one seed, short runs",
        "command": f"python benchmarks/choices.py --data FOLDER --case {given.case} --seconds {given.seconds}",
        "machine": Runtime("cpu").machine(),
        "versions": record.versions(),
        "seed": given.seed,
        "auto_choices": rows,
    }
    out = Path(__file__).parent / "results" / f"choices-{given.case}.json"
    write_text(out, json.dumps(result, indent=2) + "\n")
    print(f"wrote {out}")


def row(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """One student and what came of it."""
    where, setting = folder(given.case, given), SETTINGS[given.case]
    out = where / "choices" / f"{list(setting.choices).index(name):02}-{given.seconds}s-{given.seed}"
    light, colour = find_recipe(setting.recipe), {"flip": CASES[given.case].colour}
    changes = {"look": {"augment": colour, **setting.look}, "views": colour}
    fields = type(light.method).model_fields
    base = light.method.replaced(**{each: change for each, change in changes.items() if each in fields})
    chosen, planned = setting.choices[name](base, light.plan.replaced(**setting.plan, eval_every=10))
    teacher = where / "teacher.safetensors"
    distill(
        teacher,
        CASES[given.case].student,
        recipe=Recipe(chosen, planned, f"choices.py: {name}"),
        out=out,
        eval_data=str(where / "watched.npz"),
        device="cpu",
        seed=given.seed,
        quiet=True,
        budget=f"{given.seconds}s-cpu",
    )
    found = json.loads((out / "run.json").read_text())
    results, done = found["results"], found["identity"]["plan"]
    score = evaluate(out / "student.safetensors", str(where / "test.npz"), against=teacher, device="cpu")
    with (out / "log.csv").open() as log:
        curve = [float(each[score.name]) for each in csv.DictReader(log) if each.get(score.name)]
    half = curve[len(curve) // 2 :]
    print(f"{name:<60} {score.percent:6.2f}", flush=True)
    return {
        "choice": name,
        "last": round(score.percent, 2),
        "second_half_mean": round(sum(half) / len(half), 2),
        "agreement": round(score.agreement or 0.0, 2),
        "cpu_s": round(results["cpu_s"], 1),
        "student_steps": (results["rounds"] - done["warmup"]) * done["steps"],
        "images": results["images"],
    }


if __name__ == "__main__":
    main()
