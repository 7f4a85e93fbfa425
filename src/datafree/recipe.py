"""What a recipe is: a method and a plan that belong together."""

from dataclasses import dataclass
from typing import Any

from datafree.method import Method
from datafree.plan import Plan


@dataclass(frozen=True)
class Recipe:
    """A method and a plan that belong together, and where they come from."""

    method: Method
    plan: Plan
    source: str

    def settings(self) -> dict[str, Any]:
        """Method and plan as plain values, the form in which `run.json` keeps them."""
        return {
            "method": self.method.model_dump(mode="json"),
            "plan": self.plan.model_dump(mode="json"),
        }

    def shared(self) -> "Recipe":
        """This process's part of the recipe, where several work together: as many rounds and steps, on parts of batches."""
        return Recipe(self.method.shared(), self.plan.shared(), self.source)

    def rehearsal(self) -> "Recipe":
        """The recipe at the smallest size, for a dry run."""
        return Recipe(self.method.rehearsal(), self.plan.rehearsal(), self.source)
