"""The public verbs: distil a student, synthesize a transfer set, evaluate a network."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from datafree import record
from datafree.answers import tensor_answers
from datafree.budget import Budget, expected, measure, parse_budget, stretched
from datafree.data import Labelled, labelled_for
from datafree.distillation import Reporting, carry_out, identity
from datafree.files import kept_at, sha256
from datafree.method import Method, NoStudent, Problem, Teacher
from datafree.metrics import Score, percent, predictions, score
from datafree.modes import fastest_layout
from datafree.network import Network, read_weights
from datafree.plan import Plan
from datafree.ranks import broadcast, is_main, joined, place
from datafree.recipe import Recipe
from datafree.recipes import find_recipe
from datafree.rundir import STUDENT, RunDir, planned
from datafree.runlog import say
from datafree.runtime import Compile, Precision, Runtime, check_compiler, find_device
from datafree.setfile import SetCard, TransferSet, read_shard
from datafree.sources import Source, known, student_for
from datafree.spec import InputSpec
from datafree.synthesis import Order, fill


def distill(
    teacher: Source,
    student: nn.Module | Network | str,
    *,
    recipe: str | Recipe,
    inputs: InputSpec | None = None,
    out: str | Path | None = None,
    eval_data: str | Labelled | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    seed: int = 0,
    quiet: bool = False,
    tensorboard: bool = False,
    budget: str | None = None,
    compile: Compile = "off",
) -> nn.Module:
    """Teach `student` what `teacher` knows, without the teacher's data, and return it in eval mode.

    `teacher` is a module that answers inputs [B, C, H, W] with logits [B, classes], a `Network`, or the path of a network
    file; it is copied, never touched. `student` is the name of an architecture, or a module or `Network`, which is trained
    in place. `inputs` may be left out where the teacher has a card. `out` is the run's folder: the same call again resumes
    it, and gives a finished run's student back; without it nothing is kept. `eval_data` only reports. `budget`, `20m` of wall
    time or `50000images`, stretches the recipe's rounds to it, after a few rounds that measure; a run that is still not done
    when its time is up ends there, with its student. `compile` is a mode of torch.compile for the networks in the hot loop:
    other rounding, and a minute or so before the first round. Under torchrun the processes work as one: batches are dealt
    out, each process draws its own noise, and all return the same student.

    Raises `ValueError` for what cannot be served, `FloatingPointError` where the loss is no longer finite, `OSError`
    where a file cannot be written, and `stopping.Interrupted` after saving itself on Ctrl-C or SIGTERM.
    """
    reporting = Reporting(eval_data, quiet, tensorboard, budget)
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    if place()[1] > 1 and out is None:
        raise ValueError("Several processes need a folder that all of them see; name one with out.")
    with (
        joined(find_device(device)),
        Runtime(device, precision, seed, compile).seeded() as runtime,
        kept_at(out, "run") as path,
    ):
        check_compiler(runtime)
        taught = known(teacher, inputs)
        pupil = student_for(student, taught.card)
        problem = Problem(
            Teacher(taught.module, runtime),
            fastest_layout(pupil.module.to(runtime.device)),
            taught.card.inputs,
            taught.card.classes,
            taught.card.task,
        )
        problem.check()
        asked = parse_budget(budget) if budget else Budget()
        if budget:
            chosen = _within(budget, asked, problem, chosen, runtime, out, quiet)
        with tensor_answers(pupil.module), RunDir(path, identity(taught, pupil, chosen, runtime)) as folder:
            if folder.finished:
                pupil.module.load_state_dict(read_weights(folder.path / STUDENT))
            else:
                carry_out(problem, pupil, chosen, runtime, folder, reporting, asked.seconds)
    return pupil.module.eval()


def _within(
    budget: str, asked: Budget, problem: Problem, recipe: Recipe, runtime: Runtime, out: str | Path | None, quiet: bool
) -> Recipe:
    """The recipe stretched to a budget, or as it was when the run in `out` was begun with the same one."""
    if out and (earlier := planned(Path(out), budget)):
        return replace(recipe, plan=Plan(**earlier))
    pace = broadcast(measure(problem, recipe.shared(), runtime)) if asked.seconds else None
    plan = stretched(recipe.plan, asked, pace)
    told = f"budget {budget}: {expected(plan, pace)} (the recipe's own: {recipe.plan.rounds:,} rounds)"
    say(told, quiet or not is_main())
    return replace(recipe, plan=plan)


def rehearse(teacher: Network, student: str, recipe: Recipe, **how: Any) -> None:
    """A dry run: every phase at the smallest size, in a folder that is thrown away, then resumed from its checkpoint.

    Raises what the real run would raise, `ValueError` under torchrun, and `AssertionError` where the resumed run gives
    another student.
    """
    if place()[1] > 1:
        raise ValueError("A dry run is one process; start it without torchrun.")
    with kept_at(None, "run") as out:
        hashes = []
        for _ in ("run", "resume"):
            distill(teacher, student, recipe=recipe.rehearsal(), out=out, **how)
            hashes.append(sha256(out / STUDENT))
            (out / STUDENT).unlink()
        assert hashes[0] == hashes[1], "a resumed run gave another student"


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
) -> TransferSet:
    """Make a transfer set of `n` images from `teacher` alone, without a student.

    `method` is a method's settings, a recipe, or a recipe's name. `out` is the set's file: the same call again resumes;
    without it the set is only returned. With `shard=(3, 16)` the third of sixteen parts is made and returned; the parts
    read back as one set by their common name. `pixels` is how images are kept; the soft `targets` that they were made for
    (where the method has such) and the teacher's `logits` are kept beside them.

    Raises `ValueError` for a method that needs a student, and as `distill` does.
    """
    order = Order(n, batch, *shard, pixels=pixels, targets=targets, logits=logits)
    settings = method if isinstance(method, Method) else (find_recipe(method) if isinstance(method, str) else method).method
    if settings.adversarial:
        raise ValueError("This method's inputs depend on a student, so it cannot make a set without one; use distill.")
    with (
        Runtime(device, precision, seed).seeded() as runtime,
        kept_at(out, "set.safetensors") as path,
    ):
        taught = known(teacher, inputs)
        known_as = taught.card
        problem = Problem(Teacher(taught.module, runtime), NoStudent(), known_as.inputs, known_as.classes, known_as.task)
        problem.check_teacher()
        synthesizer = settings.start(problem, runtime)
        made = {"method": settings.model_dump(mode="json"), "teacher": record.fingerprint(taught.module), "seed": seed, "n": n}
        made |= {"batch": batch, "pixels": pixels, "targets": targets, "logits": logits, "precision": runtime.precision}
        card = SetCard(inputs=problem.inputs, provenance=synthesizer.provenance(), shards=order.shards, made=made)
        return read_shard(fill(problem, synthesizer, runtime, order, path, card, quiet))


def evaluate(
    network: Source,
    data: str | Labelled,
    *,
    inputs: InputSpec | None = None,
    against: Source | None = None,
    device: str = "auto",
) -> Score:
    """Accuracy of `network` on labelled data, or mIoU where each pixel has a label, and its agreement with `against`.

    `data` is as on the command line (see `load_labelled`). Raises `ValueError` where it does not fit the network.
    """
    taught = known(network, inputs)
    labelled = labelled_for(data, taught.card.inputs.shape, taught.card.classes)
    chosen = _predict(taught, labelled, device)
    found = score(chosen, labelled)
    if against is None:
        return found
    other = known(against, inputs)
    judged = labelled_for(data, other.card.inputs.shape, other.card.classes)
    return replace(found, agreement=percent(_predict(other, judged, device) == chosen))


def _predict(taught: Network, labelled: Labelled, device: str) -> Tensor:
    """First choices [N], or [N, H, W]."""
    where = find_device(device)
    module = copy.deepcopy(taught.module).to(where)  # where the caller keeps his own is not ours to change
    return predictions(module, labelled.pixels, taught.card.inputs, where)
