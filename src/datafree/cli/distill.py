"""The command `datafree distill`, with flags for the settings of the recipe that it is called with."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import datafree
from datafree.api.distill import AUTO
from datafree.cli.arguments import NOT_ASKED, Asked, EvalData, Packages, flag_value, preset, shape_of
from datafree.core.distributed import launch_rank
from datafree.core.runtime import Compile, Precision
from datafree.core.settings import Option, explain
from datafree.core.spelling import spelled
from datafree.core.terminal import printable, show
from datafree.engine.method import Method
from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.engine.record import FORMAT, flatten, is_finished, read_record
from datafree.recipes import find_recipe, recipe_from
from datafree.reports.record import outcome

UNNAMED = "dfad-cifar10"  # its flags are shown if no recipe is named


def distill_command(tokens: list[str]) -> Callable[..., None]:
    """The distill command with the flags and defaults of the recipe, or of the run, that `tokens` name."""
    config = flag_value(tokens, "--config")
    name = flag_value(tokens, "--recipe")
    name = None if name == AUTO else name
    settings = _read_config(Path(config)) if config else {}
    recipe = recipe_from(settings) if config else find_recipe(name or UNNAMED)
    return _distill_with(recipe, _replayed(settings), named=bool(name or config))


class Defaults(BaseModel):
    """What the flags of a run take from the record of an earlier one, beside its recipe."""

    model_config = ConfigDict(strict=True)

    class Student(BaseModel):
        """The student of that run."""

        architecture: str | None = None
        options: dict[str, Option] = Field(default_factory=dict)
        resized_to: list[int] | None = None
        weights: str | None = None
        request: str | None = None

        @property
        def name(self) -> str | None:
            """The architecture with its options, as --student takes it; of a pruned teacher the size."""
            if self.request and self.request.endswith("-pruned"):
                return self.request
            return None if self.architecture is None else spelled(self.architecture, self.options)

    student: Student = Student()
    precision: Precision = "auto"
    seed: int = 0
    compile: Compile = "off"


def _replayed(settings: dict[str, Any]) -> Defaults:
    """The defaults in the identity of a run. Raises `ValueError` for entries of other types than a run writes."""
    try:
        return Defaults.model_validate(settings)
    except ValidationError as error:
        raise ValueError(f"The run of --config has settings that no run has ({explain(error)}); give another.") from error


def _distill_with(recipe: Recipe, defaults: Defaults, named: bool) -> Callable[..., None]:
    student_default, default_precision = defaults.student.name, defaults.precision
    default_inputs = "x".join(map(str, defaults.student.resized_to)) if defaults.student.resized_to else None
    default_weights = defaults.student.weights
    default_seed, default_compile = defaults.seed, defaults.compile

    def command(
        teacher: Path | None = None,
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
        student_inputs: str | None = default_inputs,
        student_weights: str | None = default_weights,
        race: int = 0,
        asked: Asked = NOT_ASKED,
    ) -> None:
        """Distil a teacher into a smaller student, without its data; the same command resumes.

        The --method flags are those of the recipe's method: name a recipe to see them with its defaults.

        Args:
            teacher: A network file (datafree pack, datafree teach), or a whole network: .pt2 of torch.export, .onnx,
                TorchScript; left out with --teacher-command.
            student: Architecture of the student, a name of this package (resnet20, ...) or timm:NAME, options after commas; or
                its size, for which one is chosen: 4x, 4x-compute, 5ms, 5ms@8, 2MB (datafree students TEACHER lists them).
            recipe_name: Name of the recipe: a method's settings with their source; left out, or auto: picked for the teacher.
            config: The run.json of an earlier run, whose settings are used.
            out: Folder of the run: log.csv, images, checkpoint, student.safetensors, run.json, report.html.
            eval_data: Labelled data to report the accuracy or mIoU on; the student is never chosen by it.
            method: Settings of the method.
            plan: Settings of the training.
            device: auto, cpu, cuda, cuda:1, ...
            precision: fp32, or bf16 autocast; auto: bf16 on a GPU that has it, else fp32; without --recipe the faster one.
            seed: Seed of all random numbers.
            dry_run: Run every phase once at the smallest size, then stop.
            tensorboard: Also write TensorBoard event files to the run's folder.
            budget: Wall time (90s, 20m, 1.5h), CPU time (15m-cpu) or images (50000images) to which the run is scaled.
            compile: Mode of torch.compile for the networks; it takes about a minute first, so it pays only on long runs.
            allow_code: Packages whose code may be imported and called to build the networks; or a file, if it is TorchScript.
            student_inputs: CHANNELSxHEIGHTxWIDTH to which the student resizes its inputs inside; left out: it does not.
            student_weights: File of weights that the student begins with, or teacher: wherever names and shapes fit.
            race: Number of students of the size --student that get a tenth of the budget each; the best is then distilled.
        """
        resized_to = shape_of(student_inputs, "--student-inputs") if student_inputs else None
        if not named and (method or plan):
            raise ValueError("The flags --method and --plan belong to a recipe; name one with --recipe, or give --config.")
        if student is None or (out is None and not dry_run):
            raise ValueError(
                "A run needs " + ("a student; pass --student NAME." if student is None else "a folder; pass --out RUN.")
            )
        changed = recipe.changed(method, plan) if named else AUTO
        common: dict[str, Any] = {
            "recipe": changed, "eval_data": eval_data, "device": device, "precision": precision, "seed": seed,
            "compile": compile, "allow_code": allow_code, "student_inputs": resized_to, "student_weights": student_weights,
        }  # fmt: skip
        with asked.teacher(teacher) as (source, inputs):
            if dry_run:
                datafree.dry_run(source, student, inputs=inputs, quiet=True, **common)
                show("dry run passed: synthesis, student steps, checkpoint, resume, evaluation and student file")
                return
            assert out is not None
            was_finished = is_finished(out)
            verb = partial(datafree.race, runners=race) if race else datafree.distill
            verb(source, student, inputs=inputs, out=out, tensorboard=tensorboard, budget=budget, **common)
        if launch_rank()[0] == 0:
            first, *more = outcome(out)
            show("already " * was_finished + first, *more)

    command.__annotations__ |= {"method": preset(recipe.method) | None, "plan": preset(recipe.plan) | None}
    return command


def _read_config(path: Path) -> dict[str, Any]:
    record = read_record(path)
    identity, version = dict(record["identity"]), record.get("format", 1)
    if version != FORMAT:
        raise ValueError(
            f"{path} is a record of format {version}, whose settings have other names than those of format {FORMAT}; "
            "name a recipe and its flags instead."
        )
    for key, value in flatten(identity).items():  # which the help shows as defaults
        if printable(f"{key}{value}") != f"{key}{value}":
            raise ValueError(f"{path} has settings with invisible characters, {key!r}; give one that datafree distill wrote.")
    return identity
