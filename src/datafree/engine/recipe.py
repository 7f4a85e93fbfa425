"""A recipe: a method's settings and a training plan that belong together, with their source."""

from dataclasses import dataclass
from typing import Any

from datafree.core.distributed import per_process
from datafree.core.settings import PerRun
from datafree.engine.method import Method
from datafree.engine.plan import Plan


@dataclass(frozen=True)
class Recipe:
    """A method's settings and a training plan that belong together.

    Args:
        method: settings of the method that makes the images.
        plan: settings of the student's training.
        source: where both come from, a paper or this package.
    """

    method: Method
    plan: Plan
    source: str

    def settings(self) -> dict[str, Any]:
        """The settings as `run.json` stores them.

        Returns:
            `method` and `plan`, each as a dict of plain values.
        """
        return {"method": self.method.model_dump(mode="json"), "plan": self.plan.model_dump(mode="json")}

    def changed(self, method: Method | None, plan: Plan | None) -> "Recipe":
        """A copy with other settings.

        Args:
            method: settings of the same method, whose values replace those of the recipe; None: unchanged.
            plan: training settings, whose values replace those of the recipe; None: unchanged.

        Returns:
            The changed recipe, with the same source.

        Raises:
            ValueError: `method` belongs to another method.
        """
        return Recipe(
            type(self.method)(**method.model_dump()) if method else self.method,
            Plan(**plan.model_dump()) if plan else self.plan,
            self.source,
        )

    def per_process(self) -> "Recipe":
        """The part of one process when several train together: the same rounds and steps, on an equal part of each batch.

        Returns:
            The recipe with its numbers of images divided by the number of processes.

        Raises:
            ValueError: a number of images is not a multiple of the number of processes; the message has its flag.
        """

        def part(flag: str, value: Any, marks: list[Any]) -> Any:
            return per_process(value, f"--{flag}") if any(isinstance(mark, PerRun) for mark in marks) else value

        return Recipe(self.method.changed(part, "method"), self.plan.changed(part, "plan"), self.source)

    def dry_run(self) -> "Recipe":
        """The recipe at the smallest size, for a dry run.

        Returns:
            The recipe with a few rounds, steps and images.
        """
        return Recipe(self.method.dry_run(), self.plan.dry_run(), self.source)
