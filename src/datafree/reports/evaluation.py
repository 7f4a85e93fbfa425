"""Evaluation of a run's teacher and student on labelled data, which only reports."""

from typing import Any

from torch import nn

from datafree.data.drawing import save_grid
from datafree.data.labelled import Labelled
from datafree.engine.folder import RunDir
from datafree.engine.log import RunLog
from datafree.engine.method import Problem
from datafree.engine.record import EVALUATION
from datafree.networks.outputs import explained
from datafree.reports.metrics import Score, predictions, score
from datafree.reports.pictures import evaluation_sheet


def score_network(problem: Problem, labelled: Labelled, network: nn.Module) -> Score:
    """Score of `network`, a teacher or a student of `problem`, on `labelled`."""
    with explained("student" if network is problem.student else "teacher", network, problem.inputs):
        predicted = predictions(network, labelled.pixels, problem.inputs, problem.teacher.runtime.device)
    return score(predicted, labelled)


def evaluate_run(problem: Problem, labelled: Labelled, folder: RunDir, log: RunLog) -> dict[str, Any]:
    """Scores of both networks and the best score in the log, percent; for segmentation also each class's and a picture."""
    teacher, student = (score_network(problem, labelled, each) for each in (problem.teacher.network, problem.student))
    name = student.name
    found = {f"teacher_{name}": teacher.percent, f"student_{name}": student.percent, f"best_{name}_oracle": log.best(name)}
    if not student.each:
        return found
    pictures, columns = evaluation_sheet(problem, labelled)
    save_grid(pictures, folder.images / EVALUATION, columns)
    names = labelled.names or tuple(map(str, range(labelled.classes)))
    return {**found, f"student_{name}_each": dict(zip(names, student.rounded(), strict=True))}
