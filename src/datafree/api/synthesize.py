"""The verb `synthesize`: a transfer set from a teacher alone."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from datafree.core.files import path_or_temporary
from datafree.core.runtime import Precision, Runtime
from datafree.core.spec import InputSpec
from datafree.data.sets import SetCard, TransferSet, read_shard
from datafree.engine.fill import SetPlan, fill
from datafree.engine.method import Method, NoStudent, Problem
from datafree.engine.recipe import Recipe
from datafree.networks.sources import Source, as_network
from datafree.networks.teacher import Teacher
from datafree.networks.weights import fingerprint
from datafree.recipes import find_recipe


def synthesize(
    teacher: Source,
    method: Method | Recipe | str,
    n: int,
    *,
    inputs: InputSpec | None = None,
    out: str | Path | None = None,
    shard: tuple[int, int] = (1, 1),
    batch: int = 100,
    pixels: Literal["uint8", "float16"] = "uint8",
    targets: bool = True,
    logits: bool = True,
    device: str = "auto",
    precision: Precision = "auto",
    seed: int = 0,
    quiet: bool = False,
    allow_code: Collection[str] = (),
) -> TransferSet:
    """Make a transfer set of `n` images from `teacher` alone, without a student.

    `method` is a method's settings, a recipe, or a recipe's name. `out` is the set's file: the same call again resumes;
    without it the set is only returned. With `shard=(3, 16)` the third of sixteen parts is made and returned; the parts
    read back as one set by their common name. `pixels` is how images are kept; the soft `targets` that they were made for
    (where the method has such) and the teacher's `logits` are kept beside them.

    Raises `ValueError` for a method that needs a student, and as `distill` does.
    """
    taught = as_network(teacher, inputs, allow_code)
    plan = SetPlan(n, batch, *shard, pixels=pixels, targets=targets, logits=logits)
    settings = method if isinstance(method, Method) else (find_recipe(method) if isinstance(method, str) else method).method
    if settings.adversarial:
        raise ValueError("This method's inputs depend on a student, so it cannot make a set without one; use distill.")
    with (
        Runtime(device, precision, seed).seeded() as runtime,
        path_or_temporary(out, "set.safetensors") as path,
    ):
        card = taught.card
        problem = Problem(Teacher(taught.module, card.inputs, runtime), NoStudent(), card.inputs, card.classes, card.task)
        problem.check_teacher()
        synthesizer = settings.start(problem, runtime)
        made = {"method": settings.model_dump(mode="json"), "teacher": fingerprint(taught.module), "seed": seed, "n": n}
        made |= {"batch": batch, "pixels": pixels, "targets": targets, "logits": logits, "precision": runtime.precision}
        label = SetCard(inputs=problem.inputs, provenance=synthesizer.provenance(), shards=plan.shards, made=made)
        return read_shard(fill(problem, synthesizer, runtime, plan, path, label, quiet))
