"""How good a run's student is beside its teacher, on labelled data that only reports."""

from typing import Any

from torch import nn

from datafree.data.drawing import save_grid
from datafree.data.labelled import Labelled
from datafree.engine.folder import JUDGED, RunDir
from datafree.engine.log import RunLog
from datafree.engine.method import Problem
from datafree.reports.metrics import Score, predictions, score
from datafree.reports.pictures import judged


def grade(problem: Problem, labelled: Labelled, network: nn.Module) -> Score:
    """`network`'s score."""
    return score(predictions(network, labelled.pixels, problem.inputs, problem.teacher.runtime.device), labelled)


def judgement(problem: Problem, labelled: Labelled, folder: RunDir, log: RunLog) -> dict[str, Any]:
    """Both networks' scores, the best ever logged, and, where pixels are judged, each class's and a picture."""
    teacher, student = (grade(problem, labelled, each) for each in (problem.teacher.network, problem.student))
    name = student.name
    found = {f"teacher_{name}": teacher.percent, f"student_{name}": student.percent, f"best_{name}_oracle": log.best(name)}
    if not student.each:
        return found
    pictures, columns = judged(problem, labelled)
    save_grid(pictures, folder.images / JUDGED, columns)
    names = labelled.names or tuple(map(str, range(labelled.classes)))
    return {**found, f"student_{name}_each": dict(zip(names, student.rounded(), strict=True))}
