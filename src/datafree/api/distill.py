"""The verb `distill`: from a teacher and a student's name to a student's file, its record and its page."""

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from datafree.core.distributed import broadcast, is_main, launch_rank, process_group, world_size
from datafree.core.files import path_fingerprint, path_or_temporary
from datafree.core.modes import fastest_layout
from datafree.core.runtime import Compile, Precision, Runtime, check_compiler, find_device
from datafree.core.spec import InputSpec
from datafree.data.labelled import Labelled, labelled_for
from datafree.engine import loop
from datafree.engine.budget import Budget, measure, parse_budget, plan_summary, stretched
from datafree.engine.folder import STUDENT, RunDir, chosen_before, earlier_plan
from datafree.engine.method import Problem
from datafree.engine.plan import Plan
from datafree.engine.progress import print_line
from datafree.engine.recipe import Recipe
from datafree.networks.network import Card, Network
from datafree.networks.outputs import logits_only
from datafree.networks.sources import Source, as_network, student_for
from datafree.networks.teacher import Teacher
from datafree.networks.weights import fingerprint, parameters, read_weights, shapes_fingerprint
from datafree.recipes import find_recipe, recipe_from
from datafree.recipes.auto import choose
from datafree.reports import record
from datafree.reports.judgement import grade, judgement
from datafree.reports.page import write_report
from datafree.reports.pictures import DRAWINGS, Sheet

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
) -> nn.Module:
    """Distil `teacher` into `student` without the teacher's data, and return the student in eval mode.

    The same call again resumes a run, and gives a finished run's student back. Under torchrun the processes work as one:
    batches are dealt out, each process draws its own noise, and all return the same student.

    Args:
        teacher: a module that answers inputs [B, C, H, W] with logits [B, classes] or [B, classes, H, W], a `Network`, or the
            path of a network file. It is copied, never touched.
        student: the name of an architecture, or a module or `Network`, which is trained in place.
        recipe: a recipe, or its name in `RECIPES`: the method, the plan of the training, and where they come from. `auto`
            examines the teacher and picks them; `run.json` then holds what was picked and why.
        inputs: shape and scaling of one input; may be left out where the teacher has a card.
        out: the run's folder (log, images, checkpoint, student file, record, page); without it nothing is kept.
        eval_data: labelled data, as `load_labelled` reads it. It only reports; the student is never chosen by it.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: `fp32`, `bf16` (autocast), or `auto`: bf16 on a GPU that computes in it, else fp32.
        seed: seed of everything random.
        quiet: print no progress.
        tensorboard: also write TensorBoard event files into `out`.
        budget: wall time (`90s`, `20m`, `1.5h`) or images (`50000images`) that the recipe's rounds are stretched to, after a
            few rounds that measure. A run that is not done when its time is up ends there, with its student.
        compile: a mode of torch.compile for the networks in the hot loop: other rounding, and a minute before the first round.
        allow_code: packages whose code may be imported and called to build the teacher.

    Raises:
        ValueError: what cannot be served, with what to do about it.
        FloatingPointError: the loss is no longer finite; the last good checkpoint is kept.
        OSError: a file cannot be written.
        Interrupted: asked to stop (Ctrl-C, SIGTERM), after saving.
    """
    network = as_network(teacher, inputs, allow_code)
    chosen = find_recipe(recipe) if isinstance(recipe, str) and recipe != AUTO else recipe
    asked = parse_budget(budget) if budget else Budget()
    card = network.card
    labelled = None if eval_data is None else labelled_for(eval_data, card.inputs.shape, card.classes)
    if launch_rank()[1] > 1 and out is None:
        raise ValueError("Several processes need a folder that all of them see; name one with out.")
    with ExitStack() as stack:
        stack.enter_context(process_group(find_device(device)))
        runtime = stack.enter_context(Runtime(device, precision, seed, compile).seeded())
        path = stack.enter_context(path_or_temporary(out, "run"))
        check_compiler(runtime)
        pupil = student_for(student, card)
        module = fastest_layout(pupil.module.to(runtime.device))
        problem = Problem(Teacher(network.module, card.inputs, runtime), module, card.inputs, card.classes, card.task)
        problem.check()
        reasons: tuple[str, ...] = ()
        if isinstance(chosen, str):
            chosen, asked, budget, reasons = _by_itself(problem, asked, budget, out, quiet)
        elif budget:
            chosen = _within(budget, asked, problem, chosen, out, quiet)
        stack.enter_context(logits_only(module))
        identity = _identity(network, pupil, chosen, runtime)
        folder = stack.enter_context(RunDir(path, identity))
        if folder.finished:
            module.load_state_dict(read_weights(folder.path / STUDENT))
        else:
            run = Run(problem, pupil.card, chosen, folder, labelled, quiet, tensorboard, budget, asked.seconds, reasons)
            run.carry_out()
    return module.eval()


def _by_itself(
    problem: Problem, asked: Budget, budget: str | None, out: str | Path | None, quiet: bool
) -> tuple[Recipe, Budget, str, tuple[str, ...]]:
    """Recipe, budget (also as text) and reasons of `auto`, or those of the run in `out` if `auto` began it."""
    if out and (begun := chosen_before(Path(out))):
        return recipe_from(begun["identity"]), parse_budget(begun["budget"]), begun["budget"], tuple(begun["auto"])
    choice = broadcast(choose(problem, asked.seconds))
    for reason in choice.reasons:
        print_line(f"auto: {reason}", quiet or not is_main())
    text = budget or f"{choice.seconds:g}s"
    asked = parse_budget(text)
    return _within(text, asked, problem, choice.recipe, None, quiet), asked, text, choice.reasons


def _within(budget: str, asked: Budget, problem: Problem, recipe: Recipe, out: str | Path | None, quiet: bool) -> Recipe:
    """The recipe stretched to a budget, or as it was when the run in `out` was begun with the same one."""
    if out and (earlier := earlier_plan(Path(out), budget)):
        return replace(recipe, plan=Plan(**earlier))
    if asked.seconds:
        print_line(f"budget {budget}: measuring a few rounds", quiet or not is_main())
    pace = broadcast(measure(problem, recipe.per_process())) if asked.seconds else None
    plan = stretched(recipe.plan, asked, pace)
    line = f"budget {budget}: {plan_summary(plan, pace)} (the recipe's own: {recipe.plan.rounds:,} rounds)"
    print_line(line, quiet or not is_main())
    return replace(recipe, plan=plan)


def _identity(teacher: Network, student: Network, recipe: Recipe, runtime: Runtime) -> dict[str, Any]:
    """What makes a run this run: a folder that holds another is refused."""
    return {
        "teacher": fingerprint(teacher.module),
        "student": {"architecture": student.card.architecture, "layout": shapes_fingerprint(student.module)},
        "inputs": teacher.card.inputs.model_dump(mode="json"),
        **recipe.settings(),
        "files": {str(path): path_fingerprint(path) for path in recipe.method.files()},
        "seed": runtime.seed,
        "precision": runtime.precision,
        "device": runtime.device.type,
        "compile": runtime.compile,
        "processes": world_size(),
    }


@dataclass(frozen=True)
class Run:
    """One run from a problem to a student file, its record and its page; the last five fields change no student."""

    problem: Problem
    card: Card  # the student's
    recipe: Recipe
    folder: RunDir
    labelled: Labelled | None
    quiet: bool
    tensorboard: bool
    budget: str | None  # as it was asked for
    seconds: float | None  # of wall time, after which the run ends
    reasons: tuple[str, ...]  # of `auto`, for its choice

    def carry_out(self) -> None:
        """Train, then write the student's file and the finished record."""
        problem, folder, recipe = self.problem, self.folder, self.recipe.per_process()
        runtime = problem.teacher.runtime
        synthesizer = recipe.method.start(problem, runtime)
        runtime.seed_per_process()
        folder.write({"status": "running", **self._facts(synthesizer.provenance())})
        judge = self._judge if self.labelled else None
        job = loop.Job(
            problem, synthesizer, recipe.plan, runtime, folder, judge, self._draw, self.quiet, self.tensorboard, self.seconds
        )
        kept, clock, log = loop.run(job)
        if kept is not problem.student:
            problem.student.load_state_dict(kept.state_dict())
        results: dict[str, Any] = {"rounds": clock.round, **runtime.totals(), "peak_mb": runtime.peak_mb()}
        results |= {f"{name}_s": round(value, 2) for name, value in (clock.seconds() | runtime.phases).items()}
        if not is_main():
            return
        self._save_student(clock.round)
        if self.labelled:
            results |= judgement(problem, self.labelled, folder, log)
        student = {"sha256": fingerprint(problem.student), "parameters": parameters(problem.student)}
        folder.write({"status": "finished", "student": student, "results": results})
        write_report(folder.path)

    def _facts(self, provenance: str) -> dict[str, Any]:
        """What `run.json` says from the start."""
        teacher = self.problem.teacher
        return {
            "command": record.command(),
            "budget": self.budget,
            "source": self.recipe.source,
            **({"auto": list(self.reasons)} if self.reasons else {}),
            "task": self.problem.task,
            "versions": record.versions(),
            "machine": teacher.runtime.machine(),
            "provenance": record.provenance(provenance, self.labelled),
            "teacher": {"sha256": self.folder.identity["teacher"], "parameters": parameters(teacher)},
        }

    def _save_student(self, rounds: int) -> None:
        history = {
            "event": "distilled",
            "method": self.recipe.method.name,
            "teacher": self.folder.identity["teacher"],
            "rounds": rounds,
            "seed": self.folder.identity["seed"],
        }
        Network(self.problem.student, self.card.model_copy(update={"history": (history,)})).save(self.folder.path / STUDENT)

    def _judge(self, network: nn.Module) -> dict[str, float]:
        assert self.labelled
        score = grade(self.problem, self.labelled, network)
        return {score.name: score.percent}

    def _draw(self, pixels: Tensor) -> Sheet:
        return DRAWINGS[self.problem.task](self.problem, pixels, self.labelled.colours if self.labelled else None)
