"""The verb `dry_run`: every phase of a run at the smallest size, before hours are spent on it."""

from typing import Any

from datafree.api.distill import AUTO, distill
from datafree.api.student import prepare_student
from datafree.core.distributed import launch_rank
from datafree.core.files import path_or_temporary, sha256
from datafree.core.runtime import Runtime
from datafree.engine.method import Problem
from datafree.engine.recipe import Recipe
from datafree.engine.record import STUDENT
from datafree.networks.sources import Source, as_network
from datafree.networks.teacher import Teacher
from datafree.recipes.auto import choose


def dry_run(teacher: Source, student: str, recipe: Recipe | str, **how: Any) -> None:
    """Run every phase at the smallest size, in a temporary folder, then resume from the checkpoint.

    Args:
        teacher: as in `distill`.
        student: the name of an architecture, or a size.
        recipe: the recipe whose phases are run, or `auto`.
        how: further arguments of `distill`, except `out`.

    Raises:
        ValueError: the real run would raise it, or the dry run was started under torchrun.
        AssertionError: the resumed run gave another student.
    """
    if launch_rank()[1] > 1:
        raise ValueError(f"A dry run has one process, not {launch_rank()[1]}; start it without torchrun.")
    allowed = how.get("allow_code", ())
    network = as_network(teacher, how.pop("inputs", None), allowed, "teacher")
    if isinstance(recipe, str):
        assert recipe == AUTO
        with Runtime(how.get("device", "auto")).seeded() as runtime:
            begun = prepare_student(student, network, None, how.get("student_inputs"), how.get("student_weights"), allowed)
            card, module = network.card, begun.network.module.to(runtime.device)
            frozen = Teacher(network.module, card.inputs, runtime)
            recipe = choose(Problem(frozen, module, card.inputs, card.classes, card.task)).recipe
    with path_or_temporary(None, "run") as out:
        hashes = []
        for _ in ("run", "resume"):
            distill(network, student, recipe=recipe.dry_run(), out=out, **how)
            hashes.append(sha256(out / STUDENT))
            (out / STUDENT).unlink()
        assert hashes[0] == hashes[1], "a resumed run gave another student"
