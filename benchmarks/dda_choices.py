"""What strength, omega, the number of variations and the same-class rule do to DDA's student.

    python benchmarks/dda_choices.py --data FOLDER --seeds 0 --teacher FILE

One bank of CSD and one diffusion model trained on it serve every row of a seed. A row varies the whole bank once, and its
student takes 2,000 steps on the bank and on what was kept. The table is measured on the test set: the recipe's settings were
fixed before, and none is taken from it. Each row is a run folder, so the same line resumes.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from datafree import Recipe, build, load
from datafree.core.modes import fastest_layout
from datafree.core.runtime import Runtime
from datafree.data.labelled import Labelled, labelled_for
from datafree.engine import loop
from datafree.engine.folder import RunDir
from datafree.engine.method import Problem
from datafree.methods.dda import DDA, DDASynthesizer
from datafree.networks.network import Network
from datafree.networks.teacher import Teacher
from datafree.recipes import find_recipe
from datafree.reports import record
from datafree.reports.metrics import percent, predictions

STUDENT = "resnet8-half"
CENTRE: dict[str, Any] = {"variations": 2, "strength": 0.5, "omega": 0.6, "same_class": False}
ROWS = [
    {"variations": 0},
    {},
    {"strength": 0.3},
    {"strength": 0.7},
    {"omega": 0.9},
    {"same_class": True},
    {"variations": 1},
    {"variations": 4},
]


def main() -> None:
    """Run every row that has not been run, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with fashion_mnist_test.npz")
    parser.add_argument("--teacher", type=Path, required=True, help="the teacher of dda-fashion-mnist")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/dda-choices"), help="folder of the run folders")
    arguments = parser.parse_args()
    teacher = load(arguments.teacher)
    test = labelled_for(str(arguments.data / "fashion_mnist_test.npz"), teacher.card.inputs.shape, teacher.card.classes)
    rows = []
    for seed in arguments.seeds:
        for row in ROWS:
            choice = CENTRE | row
            name = "-".join(f"{key}-{value}" for key, value in choice.items())
            file = arguments.runs / f"seed-{seed}" / f"{name}.json"
            if not file.exists():
                found = _measure(teacher, choice, seed, test, file)
                file.write_text(json.dumps({**choice, "seed": seed, **found}), encoding="utf-8")
            rows.append(json.loads(file.read_text(encoding="utf-8")))
            print(rows[-1], flush=True)
    result = {
        "task": f"Fashion-MNIST at 32 pixels, resnet8 to {STUDENT}, a bank of 2,000 images of CSD",
        "command": "python benchmarks/dda_choices.py --data FOLDER --teacher FILE --seeds "
        + " ".join(map(str, arguments.seeds)),
        "machine": Runtime("cpu").machine(),
        "versions": record.versions(),
        "dda_choices": rows,
    }
    out = Path(__file__).parent / "results" / "dda-choices.json"
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {out}")


def _measure(teacher: Network, choice: dict[str, Any], seed: int, test: Labelled, file: Path) -> dict[str, Any]:
    """The last student's accuracy in percent, how much was kept, and what the run took."""
    recipe = find_recipe("dda-csd-light")
    assert isinstance(recipe.method, DDA)
    runtime = Runtime("cpu", "bf16", seed)
    with runtime.seeded():
        inputs = teacher.card.inputs
        student = fastest_layout(build(STUDENT, inputs, teacher.card.classes))
        problem = Problem(Teacher(teacher.module, inputs, runtime), student, inputs, teacher.card.classes)
        bank, diffuser = _prepared(recipe.method, problem, runtime, file.with_name("prepared.pt"))
        few = {key: choice[key] for key in ("variations", "omega", "same_class")}
        settings = recipe.method.replaced(**few, diffusion={"strength": choice["strength"]}, sources=recipe.method.bank)
        made = DDASynthesizer(settings, problem, runtime)
        made.bank.load_state_dict(bank)
        made.queue.add(made.bank.rows(slice(None)))
        if made.diffuser:
            for name, part in made.diffuser.state().items():
                part.load_state_dict(diffuser[name])
            while made.varied.count < settings.sources:
                made._extend_queue()
        noted = runtime.drain()
        images, late = len(made.queue), recipe.plan.rounds - recipe.plan.warmup
        sizes = {"rounds": 1 + late, "warmup": 1, "synthesis_rounds": 1, "images_per_round": images, "pool_size": images}
        plan = recipe.plan.replaced(**sizes)
        with RunDir(file.with_suffix(""), {**Recipe(settings, plan, "").settings(), "seed": seed}) as folder:
            kept, clock, _ = loop.run(loop.Job(problem, made, plan, runtime, folder, quiet=True))
    chosen = predictions(kept, test.pixels, problem.inputs, torch.device("cpu"))
    shares = {f"share_{name}": round(noted[name], 4) for name in ("similarity", "same_class", "kept") if name in noted}
    return {
        "last": round(percent(chosen == test.labels), 2),
        "images": images,
        **shares,
        "wall_s": round(clock.seconds()["wall"] + runtime.phases.get("variation", 0.0), 1),
    }


def _prepared(method: DDA, problem: Problem, runtime: Runtime, file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The bank and the trained diffusion model of a seed, made once."""
    if not file.exists():
        made = DDASynthesizer(method, problem, runtime)
        while made.preparation()[0] < made.preparation()[1]:
            made.prepare()
            print(made.preparation(), runtime.drain(), flush=True)
        assert made.diffuser
        file.parent.mkdir(parents=True, exist_ok=True)
        state = {name: part.state_dict() for name, part in made.diffuser.state().items()}
        torch.save({"bank": made.bank.state_dict(), "diffuser": state}, file)
    found = torch.load(file, weights_only=True)
    return found["bank"], found["diffuser"]


if __name__ == "__main__":
    main()
