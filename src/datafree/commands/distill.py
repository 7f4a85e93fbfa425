"""`datafree distill`, whose flags are made for the recipe that it is called with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from datafree import verbs
from datafree.commands.arguments import EvalData, Packages, flag_value, preset
from datafree.method import Method
from datafree.methods.dfad import DFAD
from datafree.network import load
from datafree.plan import Plan
from datafree.ranks import place
from datafree.recipe import Recipe
from datafree.recipes import RECIPES, find_recipe, recipe_from
from datafree.report import PAGE
from datafree.rundir import STUDENT, is_finished
from datafree.runtime import Compile, Precision


def distill_command(tokens: list[str]) -> Callable[..., None]:
    """The distill command with the flags and defaults of the recipe that `tokens` name."""
    config = flag_value(tokens, "--config")
    name = flag_value(tokens, "--recipe")
    if config:
        settings = _read_config(Path(config))
        recipe = recipe_from(settings)
    else:
        settings = {}
        recipe = find_recipe(name) if name else Recipe(DFAD(), Plan(), "defaults of DFAD")
    return _distill_with(recipe, settings, named=bool(name or config))


def without_flags() -> None:
    """Stands in the table of `datafree --help`; the command itself is made by `distill_command`."""


def _distill_with(recipe: Recipe, settings: dict[str, Any], named: bool) -> Callable[..., None]:
    student_default = settings.get("student", {}).get("architecture")
    default_precision, default_seed = settings.get("precision", "auto"), settings.get("seed", 0)
    default_compile = settings.get("compile", "off")

    def command(
        teacher: Path,
        *,
        student: str | None = student_default,
        recipe_name: Annotated[str | None, Parameter(name="--recipe")] = None,
        config: Path | None = None,
        out: Path | None = None,
        eval_data: EvalData = None,
        method: Method | None = None,
        plan: Plan | None = None,
        device: str = "auto",
        precision: Precision = default_precision,
        seed: int = default_seed,
        dry_run: bool = False,
        tensorboard: bool = False,
        budget: str | None = None,
        compile: Compile = default_compile,
        allow_code: Packages = (),
    ) -> None:
        """Teach a student what a teacher knows, without its data; the same line again resumes.

        The --method flags are those of the recipe's method: name a recipe to see them with its defaults.

        Parameters
        ----------
        teacher
            A network file; make one with datafree pack or datafree teach.
        student
            The student's architecture: a name of ours, or timm:NAME.
        recipe_name
            Named settings with their source; this or --config is needed.
        config
            The run.json of an earlier run, whose settings are taken.
        out
            The run's folder: log.csv, images, checkpoint, student.safetensors, run.json.
        eval_data
            Labelled data to report accuracy on; the student is never chosen by it.
        method
            Settings of the method.
        plan
            Settings of the training.
        device
            auto, cpu, cuda, cuda:1, ...
        precision
            fp32, or bf16 autocast; auto: bf16 on a GPU that has it, else fp32.
        seed
            Seed of everything random.
        dry_run
            Go once through every phase at the smallest size, then stop.
        tensorboard
            Also write TensorBoard event files into the run's folder.
        budget
            Wall time (90s, 20m, 1.5h) or images that the method makes (50000images): the recipe's rounds are stretched to it.
        compile
            Run the networks by torch.compile, in its mode of that name; worth its minute on long runs alone.
        allow_code
            Packages whose code may be imported and called to build the teacher.
        """
        if not named:
            raise ValueError(f"Name a recipe with --recipe: {', '.join(RECIPES)}; or give --config RUN/run.json.")
        if student is None or (out is None and not dry_run):
            raise ValueError("A run needs " + ("--student NAME." if student is None else "a folder, --out RUN."))
        given = Recipe(
            type(recipe.method)(**method.model_dump()) if method else recipe.method,
            Plan(**plan.model_dump()) if plan else recipe.plan,
            recipe.source,
        )
        network = load(teacher, allow_code)
        if dry_run:
            verbs.rehearse(
                network,
                student,
                given,
                eval_data=eval_data,
                device=device,
                precision=precision,
                seed=seed,
                quiet=True,
                compile=compile,
            )
            print("dry run passed: synthesis, student steps, checkpoint, resume, evaluation and student file")
            return
        assert out is not None
        before = is_finished(out)
        verbs.distill(
            network, student, recipe=given, out=out, eval_data=eval_data, device=device, precision=precision, seed=seed,
            tensorboard=tensorboard, budget=budget, compile=compile,
        )  # fmt: skip
        if place()[0] == 1:
            _tell(out, before)

    command.__annotations__ |= {"method": preset(recipe.method) | None, "plan": preset(recipe.plan) | None}
    return command


def _read_config(path: Path) -> dict[str, Any]:
    try:
        identity = json.loads(path.read_text(encoding="utf-8"))["identity"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the run.json of a run ({error}); give one that datafree distill wrote.") from error
    return dict(identity)


def _tell(out: Path, before: bool) -> None:
    """The end of a run on screen; `before`: it had come to its end already."""
    results = json.loads((out / "run.json").read_text(encoding="utf-8"))["results"]
    print(f"{'already ' * before}finished: {out / STUDENT} after {results['rounds']} rounds, {results['wall_s']:.0f} s")
    print(f"  the page to look at: {out / PAGE}")
    phases = [name for name in results if name.endswith("_s") and name not in ("wall_s", "cpu_s")]
    if phases:
        print("  of which " + ", ".join(f"{name[:-2].replace('_', ' ')} {results[name]:.0f} s" for name in phases))
    for name, shown in (("accuracy", ""), ("miou", "mIoU: ")):
        if f"student_{name}" in results:
            teacher, student = results[f"teacher_{name}"], results[f"student_{name}"]
            print(f"{shown}teacher {teacher:.2f} %  student {student:.2f} % (the last one)")
