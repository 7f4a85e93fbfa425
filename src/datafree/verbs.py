"""The public verbs: distil a student, evaluate a network."""

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from datafree import engine, record
from datafree.architectures import build
from datafree.data import Labelled, load_labelled
from datafree.files import sha256
from datafree.method import Method, NoStudent, Problem, Teacher, probe
from datafree.metrics import percent, predictions
from datafree.network import Card, Network, load, parameters, read_weights
from datafree.recipes import Recipe, find_recipe
from datafree.rundir import STUDENT, RunDir
from datafree.runtime import Precision, Runtime, fastest_layout, find_device, place
from datafree.setfile import SetCard, TransferSet, read_shard
from datafree.spec import InputSpec
from datafree.synthesis import Order, fill

Source = nn.Module | Network | str | Path


@dataclass(frozen=True)
class Score:
    """Percent of images; `agreement` is how often two networks' first choices are the same."""

    accuracy: float
    images: int
    agreement: float | None = None


@dataclass(frozen=True)
class Reporting:
    """What a run tells of itself on the way; nothing of it changes the student."""

    eval_data: str | Labelled | None = None
    quiet: bool = False
    tensorboard: bool = False


def distill(
    teacher: Source,
    student: nn.Module | Network | str,
    *,
    recipe: str | Recipe,
    inputs: InputSpec | None = None,
    out: str | Path | None = None,
    eval_data: str | Labelled | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    seed: int = 0,
    quiet: bool = False,
    tensorboard: bool = False,
) -> nn.Module:
    """Teach `student` what `teacher` knows, without the teacher's data, and return it in eval mode.

    `teacher` is a module that answers inputs [B, C, H, W] with logits [B, classes], a `Network`, or the path of a network
    file; it is copied, never touched. `student` is the name of an architecture, or a module or `Network`, which is trained
    in place. `inputs` may be left out where the teacher has a card. `out` is the run's folder: the same call again resumes
    it, and gives a finished run's student back; without it nothing is kept. `eval_data` only reports.

    Raises `ValueError` for what cannot be served, `FloatingPointError` where the loss is no longer finite, `OSError`
    where a file cannot be written, and `engine.Interrupted` after saving itself on Ctrl-C or SIGTERM.
    """
    if place() != (1, 1):
        raise ValueError("Several processes were started, and a run is one process so far; start it without torchrun.")
    reporting = Reporting(eval_data, quiet, tensorboard)
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    runtime = Runtime(device, precision, seed)
    with runtime.seeded(), tempfile.TemporaryDirectory(prefix="datafree-") as scratch:
        known = _network(teacher, inputs)
        pupil = _student(student, known.card)
        problem = Problem(
            Teacher(known.module, runtime),
            fastest_layout(pupil.module.to(runtime.device)),
            known.card.inputs,
            known.card.classes,
        )
        problem.check()
        with RunDir(out or Path(scratch) / "run", _identity(known, pupil, chosen, runtime)) as folder:
            if folder.finished:
                pupil.module.load_state_dict(read_weights(folder.path / STUDENT))
            else:
                _run(problem, pupil, chosen, runtime, folder, reporting)
    return pupil.module.eval()


def rehearse(teacher: Network, student: str, recipe: Recipe, **how: Any) -> None:
    """A dry run: every phase at the smallest size, in a folder that is thrown away, then resumed from its checkpoint.

    Raises what the real run would raise, `AssertionError` where the resumed run gives another student.
    """
    with tempfile.TemporaryDirectory(prefix="datafree-dry-run-") as scratch:
        out = Path(scratch) / "run"
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
    precision: Precision = "fp32",
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
    runtime = Runtime(device, precision, seed)
    with runtime.seeded(), tempfile.TemporaryDirectory(prefix="datafree-") as scratch:
        known = _network(teacher, inputs)
        problem = Problem(Teacher(known.module, runtime), NoStudent(), known.card.inputs, known.card.classes)
        synthesizer = settings.start(problem, runtime)
        made = {"method": settings.model_dump(mode="json"), "teacher": record.fingerprint(known.module), "seed": seed, "n": n}
        made |= {"batch": batch, "pixels": pixels, "targets": targets, "logits": logits, "precision": precision}
        card = SetCard(inputs=problem.inputs, provenance=synthesizer.provenance(), shards=order.shards, made=made)
        path = Path(out or Path(scratch) / "set.safetensors")
        return read_shard(fill(problem, synthesizer, runtime, order, path, card, quiet))


def evaluate(
    network: Source,
    data: str | Labelled,
    *,
    inputs: InputSpec | None = None,
    against: Source | None = None,
    device: str = "auto",
) -> Score:
    """Accuracy of `network` on labelled data, and its agreement with the network `against`.

    `data` is as on the command line (see `load_labelled`). Raises `ValueError` where it does not fit the network.
    """
    known = _network(network, inputs)
    chosen, labels = _predict(known, data, device)
    agreement = None
    if against is not None:
        agreement = percent(_predict(_network(against, inputs), data, device)[0] == chosen)
    return Score(percent(chosen == labels), len(labels), agreement)


def _predict(known: Network, data: str | Labelled, device: str) -> tuple[Tensor, Tensor]:
    """First choices and labels, each [N]."""
    where = find_device(device)
    labelled = _fitted(data, known.card)
    module = copy.deepcopy(known.module).to(where)  # where the caller keeps his own is not ours to change
    return predictions(module, labelled.pixels, known.card.inputs, where), labelled.labels


def _fitted(data: str | Labelled, card: Card) -> Labelled:
    labelled = load_labelled(data, card.inputs.shape) if isinstance(data, str) else data
    return labelled.fitted(card.inputs.shape, card.classes)


def _network(source: Source, inputs: InputSpec | None) -> Network:
    """Any form of a network with a card; `inputs`, where given, is believed over the card."""
    if isinstance(source, str | Path):
        source = load(source)
    if isinstance(source, Network):
        card = source.card.model_copy(update={"inputs": inputs}) if inputs else source.card
        return Network(source.module, card)
    if inputs is None:
        raise ValueError("A plain module does not say what it takes; pass inputs=InputSpec(shape=..., mean=..., std=...).")
    classes = probe("network", source, inputs).shape[1]
    return Network(source, Card(architecture=_class_path(source), classes=classes, inputs=inputs))


def _class_path(module: nn.Module) -> str:
    return f"{type(module).__module__}:{type(module).__qualname__}"


def _student(student: nn.Module | Network | str, teacher: Card) -> Network:
    if isinstance(student, str):
        module, architecture, options = build(student, teacher.inputs, teacher.classes), student, {}
    elif isinstance(student, Network):
        module, architecture, options = student.module, student.card.architecture, student.card.options
    else:
        module, architecture, options = student, _class_path(student), {}
    card = Card(architecture=architecture, options=options, classes=teacher.classes, task=teacher.task, inputs=teacher.inputs)
    return Network(module, card)


def _identity(teacher: Network, student: Network, recipe: Recipe, runtime: Runtime) -> dict[str, Any]:
    """What makes a run this run: a folder that holds another is refused."""
    return {
        "teacher": record.fingerprint(teacher.module),
        "student": {"architecture": student.card.architecture, "layout": record.shapes_fingerprint(student.module)},
        "inputs": teacher.card.inputs.model_dump(mode="json"),
        **recipe.settings(),
        "files": {str(path): record.path_fingerprint(path) for path in recipe.method.files()},
        "seed": runtime.seed,
        "precision": runtime.precision,
        "device": runtime.device.type,
    }


def _run(problem: Problem, pupil: Network, recipe: Recipe, runtime: Runtime, folder: RunDir, reporting: Reporting) -> None:
    """Run the engine, then write the student's file and the finished record."""
    synthesizer = recipe.method.start(problem, runtime)
    labelled = None if reporting.eval_data is None else _fitted(reporting.eval_data, pupil.card)
    facts = {
        "command": record.command(),
        "source": recipe.source,
        "versions": record.versions(),
        "machine": runtime.machine(),
        "provenance": record.provenance(synthesizer.provenance(), labelled),
        "teacher": {"sha256": record.fingerprint(problem.teacher.network), "parameters": parameters(problem.teacher)},
    }
    folder.write({"status": "running", **facts})

    def accuracy(network: nn.Module) -> float:
        assert labelled is not None
        chosen = predictions(network, labelled.pixels, problem.inputs, runtime.device)
        return percent(chosen == labelled.labels)

    report = accuracy if labelled else None
    job = engine.Job(problem, synthesizer, recipe.plan, runtime, folder, report, reporting.quiet, reporting.tensorboard)
    kept, clock, log = engine.run(job)
    if kept is not problem.student:
        problem.student.load_state_dict(kept.state_dict())
    history = {
        "event": "distilled",
        "method": recipe.settings()["method"]["name"],
        "teacher": folder.identity["teacher"],
    }
    card = pupil.card.model_copy(update={"history": ({**history, "rounds": clock.round, "seed": runtime.seed},)})
    Network(problem.student, card).save(folder.path / STUDENT)
    results: dict[str, Any] = {"rounds": clock.round, **runtime.counts, "peak_mb": round(runtime.peak_mb(), 1)}
    results |= {f"{name}_s": round(value, 2) for name, value in clock.seconds().items()}
    if labelled:
        results |= {
            "teacher_accuracy": accuracy(problem.teacher.network),
            "student_accuracy": accuracy(problem.student),
        }
        results |= {"best_accuracy_oracle": log.best("accuracy")}
    student = {"sha256": record.fingerprint(problem.student), "parameters": parameters(problem.student)}
    folder.write({"status": "finished", "student": student, "results": results})
