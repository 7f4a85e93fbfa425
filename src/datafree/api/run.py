"""One distillation, from a problem and a recipe to the student's file, its record and its page."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from datafree.api.estimate import KEPT, SECONDS, estimated
from datafree.core.distributed import is_main, sum_over_ranks, world_size
from datafree.core.runtime import Runtime
from datafree.data.labelled import Labelled
from datafree.engine import loop
from datafree.engine.folder import RunDir
from datafree.engine.method import Problem
from datafree.engine.recipe import Recipe
from datafree.engine.record import STUDENT
from datafree.estimation.probes import precision_for
from datafree.networks.network import Card, Network
from datafree.networks.saved.weights import fingerprint, parameters
from datafree.reports import record
from datafree.reports.evaluation import evaluate_run, score_network
from datafree.reports.page import write_report
from datafree.reports.pictures import DRAWINGS, Sheet

SHARE, LEAST = 0.1, 1.0  # of a run's wall time that an estimate may take, and the seconds below which there is none


@dataclass(frozen=True)
class Run:
    """One run, from a problem to a student file, its record and its page; what follows `folder` does not affect the student."""

    problem: Problem
    teacher: Card
    card: Card  # the student's
    recipe: Recipe
    folder: RunDir
    labelled: Labelled | None
    quiet: bool
    tensorboard: bool
    budget: str | None  # as given by the caller
    limit: tuple[str, float] | None  # a clock and the seconds of it after which the run ends
    reasons: tuple[str, ...]  # of `auto`, for its choice
    notes: dict[str, str] = field(default_factory=dict)  # further entries of the record

    def execute(self) -> None:
        """Train the student, then write its file, the finished record and the page."""
        problem, folder, recipe = self.problem, self.folder, self.recipe.per_process()
        runtime = problem.teacher.runtime
        synthesizer = recipe.method.start(problem, runtime)
        runtime.seed_per_process()
        folder.write({"status": "running", **self._initial_record(synthesizer.provenance())})
        evaluate = self._evaluate if self.labelled else None
        job = loop.Job(
            problem, synthesizer, recipe.plan, runtime, folder, evaluate, self._draw, self.quiet, self.tensorboard, self.limit
        )
        kept, clock, log = loop.run(job)
        if kept is not problem.student:
            problem.student.load_state_dict(kept.state_dict())
        results: dict[str, Any] = {"rounds": clock.round, **runtime.totals(), "peak_mb": runtime.peak_mb()}
        results |= {f"{name}_s": round(value, 2) for name, value in (clock.seconds() | runtime.phases).items()}
        own, asked = problem.teacher.questions(), sum_over_ranks(problem.teacher.questions())
        if not is_main():
            return
        folder.refuse_deleted()
        self._save_student(clock.round)
        if self.labelled:
            results |= evaluate_run(problem, self.labelled, folder, log)
        results |= {name: int(asked[name] + now - own[name]) for name, now in problem.teacher.questions().items()}
        student = {"sha256": fingerprint(problem.student), "parameters": parameters(problem.student)}
        folder.write({"status": "finished", "student": student, "results": results, **self._estimate(results["wall_s"])})
        write_report(folder.path)
        folder.remove_answers()

    def _initial_record(self, provenance: str) -> dict[str, Any]:
        """The entries of `run.json` that are known before the first round."""
        teacher = self.problem.teacher
        return {
            "command": record.command(),
            "budget": self.budget,
            "source": self.recipe.source,
            **({"auto": list(self.reasons)} if self.reasons else {}),
            **self.notes,
            "task": self.problem.task,
            "versions": record.versions(),
            "machine": teacher.runtime.machine(),
            "provenance": record.provenance(provenance, self.labelled),
            "teacher": {
                "sha256": self.folder.identity["teacher"],
                "parameters": parameters(teacher),
                "outputs": teacher.outputs,
            },
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

    def _estimate(self, wall: float) -> dict[str, Any]:
        """The record's entry of how good the student seems by its answers to probes, in at most a tenth of the run's time."""
        seconds = min(SECONDS, SHARE * wall)
        if seconds < LEAST or self.card.task != "classification" or world_size() > 1:
            return {}
        student, teacher = Network(self.problem.student, self.card), Network(self.problem.teacher.network, self.teacher)
        device = self.problem.teacher.runtime.device
        runtime = Runtime(str(device), precision_for(teacher, device), 0)
        found = estimated(student, teacher, None, seconds, runtime, self.folder.path / KEPT, self.quiet)
        return {"estimate": found.record()}

    def _evaluate(self, network: nn.Module) -> dict[str, float]:
        assert self.labelled
        score = score_network(self.problem, self.labelled, network)
        return {score.name: score.percent}

    def _draw(self, pixels: Tensor) -> Sheet:
        return DRAWINGS[self.problem.task](self.problem, pixels, self.labelled.colours if self.labelled else None)
