"""Evaluation of a run's teacher and student on labelled data, which only reports."""

from typing import Any

from torch import Tensor, nn

from datafree.data.drawing import save_grid
from datafree.data.labelled import Labelled
from datafree.engine.folder import RunDir
from datafree.engine.log import RunLog
from datafree.engine.method import Problem
from datafree.engine.record import EVALUATION
from datafree.networks.outputs import explained
from datafree.reports.metrics import Score, compared, predictions, score
from datafree.reports.pictures import evaluation_sheet


def predicted_by(problem: Problem, labelled: Labelled, network: nn.Module) -> Tensor:
    """Classes that `network`, a teacher or a student of `problem`, predicts for `labelled`: [N], or [N, H, W]."""
    with explained("student" if network is problem.student else "teacher", network, problem.inputs):
        return predictions(network, labelled.pixels, problem.inputs, problem.teacher.runtime.device)


def score_network(problem: Problem, labelled: Labelled, network: nn.Module) -> Score:
    """Score of `network`, a teacher or a student of `problem`, on `labelled`."""
    return score(predicted_by(problem, labelled, network), labelled)


def evaluate_run(problem: Problem, labelled: Labelled, folder: RunDir, log: RunLog) -> dict[str, Any]:
    """Scores of both networks, what they have in common, and the best score in the log, percent; for segmentation also each
    class's and a picture.
    """
    by_teacher, by_student = (predicted_by(problem, labelled, each) for each in (problem.teacher.network, problem.student))
    student = compared(score(by_student, labelled), by_student, by_teacher, labelled)
    name = student.name
    found = {
        f"teacher_{name}": score(by_teacher, labelled).percent,
        f"student_{name}": student.percent,
        f"best_{name}_oracle": log.best(name),
        "agreement": student.agreement,
        "teacher_right_apart": student.other_right_apart,
        "student_right_apart": student.right_apart,
    }
    if not student.each:
        return found
    pictures, columns = evaluation_sheet(problem, labelled)
    save_grid(pictures, folder.images / EVALUATION, columns)
    names = labelled.names or tuple(map(str, range(labelled.classes)))
    return {**found, f"student_{name}_each": dict(zip(names, student.rounded(), strict=True))}
