"""What a recipe is: a method and a plan that belong together."""

from dataclasses import dataclass
from typing import Any

from datafree.core.distributed import per_process
from datafree.core.settings import PerRun
from datafree.engine.method import Method
from datafree.engine.plan import Plan


@dataclass(frozen=True)
class Recipe:
    """A method and a plan that belong together, and where they come from."""

    method: Method
    plan: Plan
    source: str

    def settings(self) -> dict[str, Any]:
        """Method and plan as plain values, the form in which `run.json` keeps them."""
        return {"method": self.method.model_dump(mode="json"), "plan": self.plan.model_dump(mode="json")}

    def changed(self, method: Method | None, plan: Plan | None) -> "Recipe":
        """With the values of `method` and `plan`, where given: settings of these kinds, or of subclasses of them."""
        return Recipe(
            type(self.method)(**method.model_dump()) if method else self.method,
            Plan(**plan.model_dump()) if plan else self.plan,
            self.source,
        )

    def per_process(self) -> "Recipe":
        """This process's part of the recipe where several work together: as many rounds and steps, on parts of batches.

        Raises `ValueError`, with the flag, for what cannot be dealt out evenly.
        """

        def part(flag: str, value: Any, marks: list[Any]) -> Any:
            return per_process(value, f"--{flag}") if any(isinstance(mark, PerRun) for mark in marks) else value

        return Recipe(self.method.changed(part, "method"), self.plan.changed(part, "plan"), self.source)

    def dry_run(self) -> "Recipe":
        """The recipe at the smallest size, for a dry run."""
        return Recipe(self.method.dry_run(), self.plan.dry_run(), self.source)
