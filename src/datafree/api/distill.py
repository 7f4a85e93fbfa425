"""The function `distill`: from a teacher and a student's name to the student's file, its record and its page."""

import dataclasses
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn

from datafree.api.run import Run
from datafree.api.student import Student, prepare_student
from datafree.core.distributed import broadcast, is_main, launch_rank, process_group, world_size
from datafree.core.files import path_fingerprint, path_or_temporary
from datafree.core.modes import fastest_layout
from datafree.core.runtime import Compile, Precision, Runtime, check_compiler, find_device
from datafree.core.settings import first_line
from datafree.core.spec import InputSpec, Shape
from datafree.data.labelled import Labelled, labelled_for
from datafree.engine.budget import Budget, fit_to_budget, parse_budget
from datafree.engine.folder import RunDir
from datafree.engine.method import Problem
from datafree.engine.progress import print_line
from datafree.engine.recipe import Recipe
from datafree.engine.record import PAGE, STUDENT, chosen_before
from datafree.networks.network import Network
from datafree.networks.outputs import logits_only
from datafree.networks.saved.weights import fingerprint, read_weights
from datafree.networks.sources import Source, as_network, images_asked
from datafree.networks.teacher import Teacher
from datafree.recipes import find_recipe, recipe_from
from datafree.recipes.auto import choose
from datafree.reports.page import write_report

AUTO = "auto"  # the recipe that is none: the teacher is examined


def distill(
    teacher: Source,
    student: nn.Module | Network | str,
    *,
    recipe: str | Recipe = AUTO,
    inputs: InputSpec | None = None,
    out: str | Path | None = None,
    eval_data: str | Labelled | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    seed: int = 0,
    quiet: bool = False,
    tensorboard: bool = False,
    budget: str | None = None,
    compile: Compile = "off",
    allow_code: Collection[str] = (),
    student_inputs: Shape | None = None,
    student_weights: str | Path | None = None,
) -> nn.Module:
    """Distil `teacher` into `student` without the teacher's data, and return the student in eval mode.

    The same call again resumes the run, or returns the student of a finished one. Under torchrun the processes train together:
    each takes an equal part of every batch and draws its own noise, and all return the same student.

    Args:
        teacher: a module from inputs [B, C, H, W], network units, to logits [B, classes] or [B, classes, H, W], a `Network`, or
            the path of a network file or of a whole network without code (`.pt2`, `.onnx`, TorchScript). It is copied, and
            never changed. Or a function of this kind, a `BlackBox` or a `Command`, of which only the answers are known.
        student: a module or `Network`, which is trained in place; the name of an architecture, with options if it has any
            (`cifar-resnet,depth=26,width=12`); or a size, for which one is chosen (`datafree.students` lists those that come
            into question): `4x` fewer weights than the teacher, `4x-compute` fewer multiply-adds, `5ms` on this CPU, `5ms@8` at
            batch 8, `2MB`.
        recipe: a recipe, or its name in `RECIPES`: the method and the training plan, with their source. `auto` examines the
            teacher and picks them; `run.json` then holds what was picked and why.
        inputs: shape and scaling of one input; needed for a plain module or function, and replaces those of a card.
        out: folder of the run, for its log, images, checkpoint, student file, record and page; None: nothing is kept.
        eval_data: labelled `.npz`, folder or `torchvision:SET:ROOT` to report scores on; the student is never chosen by it.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: `fp32`, `bf16` (autocast), or `auto`: bf16 on a GPU that computes in it, else fp32, but with the recipe
            `auto` the faster one.
        seed: seed of all random numbers.
        quiet: print no progress.
        tensorboard: also write TensorBoard event files to `out`.
        budget: wall time (`90s`, `20m`, `1.5h`), CPU time of this process (`15m-cpu`) or images (`50000images`) to which the
            number of rounds is scaled. A run whose time is over ends with its current student.
        compile: mode of torch.compile for the training loop: other rounding, and about a minute before the first round.
        allow_code: packages whose code may be imported and called to build the teacher and the student; a file of
            TorchScript, which is code.
        student_inputs: channels, height and width to which the student resizes its inputs inside, which are the teacher's;
            None: it does not.
        student_weights: file of weights that the student begins with, or `teacher`: wherever names and shapes fit; None:
            random weights.

    Returns:
        The student of the last round, or with `ema_decay` the averaged one, in eval mode.

    Raises:
        ValueError: the arguments do not fit each other, or the method does not support them; the message says what to do.
        FloatingPointError: the loss is no longer finite; the last good checkpoint is kept.
        OSError: a file cannot be written.
        Interrupted: asked to stop (Ctrl-C, SIGTERM); a checkpoint has been saved.
    """
    asked_before = images_asked(teacher)
    network = as_network(teacher, inputs, allow_code, "teacher")
    chosen = find_recipe(recipe) if isinstance(recipe, str) and recipe != AUTO else recipe
    limit = parse_budget(budget) if budget else Budget()
    card = network.card
    labelled = None if eval_data is None else labelled_for(eval_data, card.inputs.shape, card.classes)
    if labelled:
        labelled.refuse_other_task(card.task)
    if launch_rank()[1] > 1 and out is None:
        raise ValueError(f"{launch_rank()[1]} processes need one folder that all of them can read; name one with out.")
    with ExitStack() as stack:
        stack.enter_context(process_group(find_device(device)))
        runtime = stack.enter_context(Runtime(device, precision, seed, compile).seeded())
        path = stack.enter_context(path_or_temporary(out, "run"))
        check_compiler(runtime)
        chosen_student = prepare_student(student, network, out, student_inputs, student_weights, allow_code)
        chosen_student.tell(quiet)
        built = chosen_student.network
        module = fastest_layout(built.module.to(runtime.device))
        problem = Problem(Teacher(network.module, card.inputs, runtime), module, card.inputs, card.classes, card.task)
        problem.check(chosen.method if isinstance(chosen, Recipe) else None)
        report_outputs(problem.teacher, quiet, network.notes)
        reasons: tuple[str, ...] = ()
        if isinstance(chosen, str):
            chosen, budget, reasons = _choose(problem, budget, limit.seconds, precision, out, quiet)
            limit = parse_budget(budget)
        elif budget:
            chosen = fit_to_budget(chosen, budget, problem, out, quiet)
        stack.enter_context(logits_only(module))
        folder = stack.enter_context(RunDir(path, _identity(network, chosen_student, chosen, runtime)))
        if folder.finished:
            _load_student(module, folder.path / STUDENT)
            if is_main() and not (folder.path / PAGE).exists():  # a kill came before the page
                write_report(folder.path)
        else:
            ends = (limit.clock, limit.seconds) if limit.seconds else None
            notes = chosen_student.notes
            stack.enter_context(problem.teacher.keeping_answers(folder.answers, asked_before))
            Run(problem, card, built.card, chosen, folder, labelled, quiet, tensorboard, budget, ends, reasons, notes).execute()
    return module.eval()


def report_outputs(teacher: Teacher, quiet: bool, notes: tuple[str, ...] = ()) -> None:
    """Print what a person should know of the teacher: how it was read, and its outputs, if they are no logits."""
    for note in notes:
        print_line(f"teacher: {note}", quiet or not is_main())
    if teacher.note:
        print_line(f"teacher: outputs are {teacher.note}", quiet or not is_main())


def _choose(
    problem: Problem, budget: str | None, seconds: float | None, precision: Precision, out: str | Path | None, quiet: bool
) -> tuple[Recipe, str, tuple[str, ...]]:
    """Recipe, budget and reasons of `auto`, or those of the run in `out` if `auto` began it; the run gets their precision."""
    runtime = problem.teacher.runtime
    if out and (begun := chosen_before(Path(out))):
        if precision == "auto":
            runtime.precision = begun["identity"]["precision"]
        recipe = recipe_from(begun["identity"])
        recipe = dataclasses.replace(recipe, source=str(begun.get("source", recipe.source)))
        return recipe, begun["budget"], tuple(begun["auto"])
    choice = broadcast(choose(problem, seconds, precision))
    runtime.precision = choice.precision
    for reason in choice.reasons:
        print_line(f"auto: {reason}", quiet or not is_main())
    budget = budget or f"{choice.seconds:g}s"
    return fit_to_budget(choice.recipe, budget, problem, None, quiet), budget, choice.reasons


def _load_student(module: nn.Module, file: Path) -> None:
    """Load the student of a finished run. Raises `ValueError` if its file does not fit the student."""
    try:
        module.load_state_dict(read_weights(file))
    except RuntimeError as error:
        raise ValueError(f"{file} does not fit the student of this run ({first_line(error)}); name a new folder.") from error


def _identity(teacher: Network, student: Student, recipe: Recipe, runtime: Runtime) -> dict[str, Any]:
    """Everything that the student depends on; a folder with another identity is refused."""
    return {
        "teacher": fingerprint(teacher.module),
        "student": student.identity,
        "inputs": teacher.card.inputs.model_dump(mode="json"),
        **recipe.settings(),
        "files": {str(path): path_fingerprint(path) for path in recipe.method.files()} | student.files(),
        "seed": runtime.seed,
        "precision": runtime.precision,
        "device": runtime.device.type,
        "compile": runtime.compile,
        "processes": world_size(),
    }
