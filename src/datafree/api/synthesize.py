"""The function `synthesize`: a transfer set from a teacher, without a student."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from datafree.api.distill import report_outputs
from datafree.core.files import path_or_temporary
from datafree.core.runtime import Precision, Runtime
from datafree.core.spec import InputSpec
from datafree.data.sets import SetCard, TransferSet, read_shard
from datafree.engine.fill import SetPlan, fill
from datafree.engine.method import Method, NoStudent, Problem
from datafree.engine.recipe import Recipe
from datafree.networks.saved.weights import fingerprint
from datafree.networks.sources import Source, as_network
from datafree.networks.teacher import Teacher
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
    """Make a transfer set from a teacher, without a student.

    The same call again resumes, or returns a finished set.

    Args:
        teacher: a module that returns logits [B, classes] for inputs [B, C, H, W] in network units, a `Network`, or the path of
            a network file. It is copied, and never changed.
        method: settings of a method that needs no student, a recipe, or a recipe's name in `RECIPES`.
        n: number of images of the whole set.
        inputs: shape and scaling of one input; needed for a plain module, and replaces those of a card.
        out: file of the set; shards are named after it. None: the set is only returned.
        shard: the part to make, from 1, and the number of parts. The parts are read as one set by their common name.
        batch: images made together; a kill loses at most as many.
        pixels: type of a stored image: `uint8`, or `float16` in [0, 1].
        targets: store the soft targets that images were made for, if the method has any.
        logits: store the teacher's logits.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: `fp32`, `bf16` (autocast), or `auto`: bf16 on a GPU that computes in it, else fp32.
        seed: seed of all random numbers.
        quiet: print no progress.
        allow_code: packages whose code may be imported and called to build the teacher.

    Returns:
        The set, or with `shard` its part.

    Raises:
        ValueError: the method needs a student or does not support the teacher, `out` holds another set, or a shard is not
            possible.
        FloatingPointError: a loss is no longer finite.
        OSError: a file cannot be written.
        Interrupted: asked to stop (Ctrl-C, SIGTERM); all complete batches have been saved.
    """
    network = as_network(teacher, inputs, allow_code, "teacher")
    plan = SetPlan(n, batch, *shard, pixels=pixels, targets=targets, logits=logits)
    settings = method if isinstance(method, Method) else (find_recipe(method) if isinstance(method, str) else method).method
    if settings.adversarial:
        raise ValueError(
            f"The images of {settings.name} depend on a student, so it cannot make a set without one; use distill."
        )
    with (
        Runtime(device, precision, seed).seeded() as runtime,
        path_or_temporary(out, "set.safetensors") as path,
    ):
        card = network.card
        problem = Problem(Teacher(network.module, card.inputs, runtime), NoStudent(), card.inputs, card.classes, card.task)
        problem.check_teacher(settings)
        report_outputs(problem.teacher, quiet, network.notes)
        synthesizer = settings.start(problem, runtime)
        made = {"method": settings.model_dump(mode="json"), "teacher": fingerprint(network.module), "seed": seed, "n": n}
        made |= {"batch": batch, "pixels": pixels, "targets": targets, "logits": logits, "precision": runtime.precision}
        set_card = SetCard(inputs=problem.inputs, provenance=synthesizer.provenance(), shards=plan.shards, made=made)
        return read_shard(fill(problem, synthesizer, runtime, plan, path, set_card, quiet))
