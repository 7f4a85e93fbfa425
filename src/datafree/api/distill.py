"""The function `distill`: from a teacher and a student's name to the student's file, its record and its page."""

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from datafree.core.distributed import is_main, launch_rank, process_group, world_size
from datafree.core.files import path_fingerprint, path_or_temporary, sha256
from datafree.core.modes import fastest_layout
from datafree.core.runtime import Compile, Precision, Runtime, check_compiler, find_device
from datafree.core.spec import InputSpec
from datafree.data.labelled import Labelled, labelled_for
from datafree.engine import loop
from datafree.engine.budget import fit_to_budget, parse_budget
from datafree.engine.folder import STUDENT, RunDir
from datafree.engine.method import Problem
from datafree.engine.recipe import Recipe
from datafree.networks.network import Card, Network
from datafree.networks.outputs import logits_only
from datafree.networks.sources import Source, as_network, student_for
from datafree.networks.teacher import Teacher
from datafree.networks.weights import fingerprint, parameters, read_weights, shapes_fingerprint
from datafree.recipes import find_recipe
from datafree.reports import record
from datafree.reports.evaluation import evaluate_run, score_network
from datafree.reports.page import write_report
from datafree.reports.pictures import DRAWINGS, Sheet


def distill(
    teacher: Source,
    student: nn.Module | Network | str,
    *,
    recipe: str | Recipe,
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

    The same call again resumes the run, or returns the student of a finished one. Under torchrun the processes train together:
    each takes an equal part of every batch and draws its own noise, and all return the same student.

    Args:
        teacher: a module from inputs [B, C, H, W], network units, to logits [B, classes] or [B, classes, H, W], a `Network`, or
            the path of a network file. It is copied, and never changed.
        student: the name of an architecture, or a module or `Network`, which is trained in place.
        recipe: a recipe, or its name in `RECIPES`: the method and the training plan, with their source.
        inputs: shape and scaling of one input; needed for a plain module, and replaces those of a card.
        out: folder of the run, for its log, images, checkpoint, student file, record and page; None: nothing is kept.
        eval_data: labelled `.npz`, folder or `torchvision:SET:ROOT` to report scores on; the student is never chosen by it.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: `fp32`, `bf16` (autocast), or `auto`: bf16 on a GPU that computes in it, else fp32.
        seed: seed of all random numbers.
        quiet: print no progress.
        tensorboard: also write TensorBoard event files to `out`.
        budget: wall time (`90s`, `20m`, `1.5h`) or images (`50000images`) to which the number of rounds is scaled. A run
            whose time is over ends with its current student.
        compile: mode of torch.compile for the training loop: other rounding, and about a minute before the first round.
        allow_code: packages whose code may be imported and called to build the teacher.

    Returns:
        The student of the last round, or with `ema_decay` the averaged one, in eval mode.

    Raises:
        ValueError: the arguments do not fit each other, or the method does not support them; the message says what to do.
        FloatingPointError: the loss is no longer finite; the last good checkpoint is kept.
        OSError: a file cannot be written.
        Interrupted: asked to stop (Ctrl-C, SIGTERM); a checkpoint has been saved.
    """
    network = as_network(teacher, inputs, allow_code)
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    seconds = parse_budget(budget).seconds if budget else None
    card = network.card
    labelled = None if eval_data is None else labelled_for(eval_data, card.inputs.shape, card.classes)
    if launch_rank()[1] > 1 and out is None:
        raise ValueError(f"{launch_rank()[1]} processes need one folder that all of them can read; name one with out.")
    with ExitStack() as stack:
        stack.enter_context(process_group(find_device(device)))
        runtime = stack.enter_context(Runtime(device, precision, seed, compile).seeded())
        path = stack.enter_context(path_or_temporary(out, "run"))
        check_compiler(runtime)
        built = student_for(student, card)
        module = fastest_layout(built.module.to(runtime.device))
        problem = Problem(Teacher(network.module, card.inputs, runtime), module, card.inputs, card.classes, card.task)
        problem.check()
        if budget:
            chosen = fit_to_budget(chosen, budget, problem, out, quiet)
        stack.enter_context(logits_only(module))
        folder = stack.enter_context(RunDir(path, _identity(network, built, chosen, runtime)))
        if folder.finished:
            module.load_state_dict(read_weights(folder.path / STUDENT))
        else:
            Run(problem, built.card, chosen, folder, labelled, quiet, tensorboard, budget, seconds).execute()
    return module.eval()


def dry_run(teacher: Source, student: str, recipe: Recipe, **how: Any) -> None:
    """Run every phase at the smallest size, in a temporary folder, then resume from the checkpoint.

    Args:
        teacher: as in `distill`.
        student: the name of an architecture.
        recipe: the recipe whose phases are run.
        how: further arguments of `distill`, except `out`.

    Raises:
        ValueError: the real run would raise it, or the dry run was started under torchrun.
        AssertionError: the resumed run gave another student.
    """
    if launch_rank()[1] > 1:
        raise ValueError(f"A dry run has one process, not {launch_rank()[1]}; start it without torchrun.")
    with path_or_temporary(None, "run") as out:
        hashes = []
        for _ in ("run", "resume"):
            distill(teacher, student, recipe=recipe.dry_run(), out=out, **how)
            hashes.append(sha256(out / STUDENT))
            (out / STUDENT).unlink()
        assert hashes[0] == hashes[1], "a resumed run gave another student"


def _identity(teacher: Network, student: Network, recipe: Recipe, runtime: Runtime) -> dict[str, Any]:
    """Everything that the student depends on; a folder with another identity is refused."""
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
    """One run, from a problem to a student file, its record and its page; the last five fields do not affect the student."""

    problem: Problem
    card: Card  # the student's
    recipe: Recipe
    folder: RunDir
    labelled: Labelled | None
    quiet: bool
    tensorboard: bool
    budget: str | None  # as given by the caller
    seconds: float | None  # wall time after which the run ends

    def execute(self) -> None:
        """Train the student, then write its file, the finished record and the page."""
        problem, folder, recipe = self.problem, self.folder, self.recipe.per_process()
        runtime = problem.teacher.runtime
        synthesizer = recipe.method.start(problem, runtime)
        runtime.seed_per_process()
        folder.write({"status": "running", **self._initial_record(synthesizer.provenance())})
        evaluate = self._evaluate if self.labelled else None
        job = loop.Job(
            problem, synthesizer, recipe.plan, runtime, folder, evaluate, self._draw, self.quiet, self.tensorboard, self.seconds
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
            results |= evaluate_run(problem, self.labelled, folder, log)
        student = {"sha256": fingerprint(problem.student), "parameters": parameters(problem.student)}
        folder.write({"status": "finished", "student": student, "results": results})
        write_report(folder.path)

    def _initial_record(self, provenance: str) -> dict[str, Any]:
        """The entries of `run.json` at the start of the run."""
        teacher = self.problem.teacher
        return {
            "command": record.command(),
            "budget": self.budget,
            "source": self.recipe.source,
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

    def _evaluate(self, network: nn.Module) -> dict[str, float]:
        assert self.labelled
        score = score_network(self.problem, self.labelled, network)
        return {score.name: score.percent}

    def _draw(self, pixels: Tensor) -> Sheet:
        return DRAWINGS[self.problem.task](self.problem, pixels, self.labelled.colours if self.labelled else None)
