"""One run from a problem to a student file and its record."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from datafree import engine, record
from datafree.data import Labelled, labelled_for
from datafree.images import save_grid
from datafree.method import Problem
from datafree.metrics import Score, predictions, score
from datafree.network import Network, parameters
from datafree.pictures import DRAWINGS, Sheet, judged
from datafree.ranks import is_main, ranks
from datafree.recipe import Recipe
from datafree.report import write_report
from datafree.rundir import JUDGED, STUDENT, RunDir
from datafree.runlog import RunLog
from datafree.runtime import Runtime


@dataclass(frozen=True)
class Reporting:
    """What a run tells of itself on the way; nothing of it changes the student."""

    eval_data: str | Labelled | None = None
    quiet: bool = False
    tensorboard: bool = False
    budget: str | None = None  # as it was asked for


def identity(teacher: Network, student: Network, recipe: Recipe, runtime: Runtime) -> dict[str, Any]:
    """What makes a run this run: a folder that holds another is refused."""
    return {
        "teacher": record.fingerprint(teacher.module),
        "student": {"architecture": student.card.architecture, "layout": record.shapes_fingerprint(student.module)},
        "inputs": teacher.card.inputs.model_dump(mode="json"),
        **recipe.settings(),
        "files": {str(path): record.path_fingerprint(path) for path in recipe.method.files()},
        "seed": runtime.seed,
        "precision": runtime.precision,
        "device": runtime.device.type,
        "compile": runtime.compile,
        "processes": ranks(),
    }


def carry_out(
    problem: Problem,
    pupil: Network,
    recipe: Recipe,
    runtime: Runtime,
    folder: RunDir,
    reporting: Reporting,
    seconds: float | None = None,
) -> None:
    """Run the engine, for at most `seconds`, then write the student's file and the finished record."""
    own = recipe.shared()
    synthesizer = own.method.start(problem, runtime)
    runtime.part_ways()
    labelled = None if reporting.eval_data is None else labelled_for(reporting.eval_data, problem.inputs.shape, problem.classes)
    facts = {
        "command": record.command(),
        "budget": reporting.budget,
        "source": recipe.source,
        "task": problem.task,
        "versions": record.versions(),
        "machine": runtime.machine(),
        "provenance": record.provenance(synthesizer.provenance(), labelled),
        "teacher": {"sha256": record.fingerprint(problem.teacher.network), "parameters": parameters(problem.teacher)},
    }
    folder.write({"status": "running", **facts})

    def draw(pixels: Tensor) -> Sheet:
        return DRAWINGS[problem.task](problem, pixels, labelled.colours if labelled else None)

    def report(network: nn.Module) -> dict[str, float]:
        assert labelled
        grade = _grade(problem, runtime, labelled, network)
        return {grade.name: grade.percent}

    judge = report if labelled else None
    job = engine.Job(
        problem, synthesizer, own.plan, runtime, folder, judge, draw, reporting.quiet, reporting.tensorboard, seconds
    )
    kept, clock, log = engine.run(job)
    if kept is not problem.student:
        problem.student.load_state_dict(kept.state_dict())
    history = {
        "event": "distilled",
        "method": recipe.method.name,
        "teacher": folder.identity["teacher"],
    }
    card = pupil.card.model_copy(update={"history": ({**history, "rounds": clock.round, "seed": runtime.seed},)})
    results: dict[str, Any] = {"rounds": clock.round, **runtime.totals(), "peak_mb": round(runtime.peak_mb(), 1)}
    results |= {f"{name}_s": round(value, 2) for name, value in (clock.seconds() | runtime.phases).items()}
    if not is_main():
        return
    Network(problem.student, card).save(folder.path / STUDENT)
    if labelled:
        results |= _judgement(problem, runtime, labelled, folder, log)
    student = {"sha256": record.fingerprint(problem.student), "parameters": parameters(problem.student)}
    folder.write({"status": "finished", "student": student, "results": results})
    write_report(folder.path)


def _grade(problem: Problem, runtime: Runtime, labelled: Labelled, network: nn.Module) -> Score:
    return score(predictions(network, labelled.pixels, problem.inputs, runtime.device), labelled)


def _judgement(problem: Problem, runtime: Runtime, labelled: Labelled, folder: RunDir, log: RunLog) -> dict[str, Any]:
    """Both networks' scores, the best ever logged, and, where pixels are judged, each class's and a picture."""
    teacher, student = (_grade(problem, runtime, labelled, each) for each in (problem.teacher.network, problem.student))
    name = student.name
    found = {f"teacher_{name}": teacher.percent, f"student_{name}": student.percent, f"best_{name}_oracle": log.best(name)}
    if not student.each:
        return found
    pictures, columns = judged(problem, labelled)
    save_grid(pictures, folder.images / JUDGED, columns)
    names = labelled.names or tuple(map(str, range(labelled.classes)))
    return {**found, f"student_{name}_each": dict(zip(names, student.rounded(), strict=True))}
