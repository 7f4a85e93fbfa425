"""The function `estimate`: how good a student is, without a single real image."""

import contextlib
import copy
import time
from collections.abc import Collection
from pathlib import Path

from datafree.core.runtime import Runtime, find_device, one_thread
from datafree.core.spec import InputSpec
from datafree.engine.progress import print_line
from datafree.estimation.conclusion import Estimate, conclude
from datafree.estimation.fitted import fitted
from datafree.estimation.probes import FEWEST, MOST, Probes, is_small, kept_probes, make_probes, precision_for, seconds_for
from datafree.estimation.readings import read
from datafree.networks.network import Network
from datafree.networks.outputs import gradient_arrives
from datafree.networks.saved.weights import fingerprint
from datafree.networks.sources import Source, as_network

SECONDS = 120.0
KEPT = "probes.safetensors"  # beside the record of a run


def estimate(
    student: Source,
    teacher: Source,
    *,
    accuracy: float | None = None,
    inputs: InputSpec | None = None,
    seconds: float = SECONDS,
    device: str = "auto",
    quiet: bool = False,
    allow_code: Collection[str] = (),
) -> Estimate:
    """Estimate how good a student is on real images, of which none is needed.

    Both networks answer to a few hundred or thousand synthetic images that no training saw; a fit over students of which the
    truth is known turns that into an interval (docs/estimate.md says how often it was right). The probes are kept beside a
    run, so that another student of it is judged in seconds.

    Args:
        student: a module, a `Network`, or a file, as `datafree.distill` takes a teacher. It is not changed.
        teacher: the network that it was distilled from, likewise.
        accuracy: the teacher's on real images, percent; None: what its card says (`datafree pack --validate`).
        inputs: shape and scaling of one input; needed for plain modules.
        seconds: wall time that the probes may take, about; fewer of them are made where a teacher is slow.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        quiet: print no progress.
        allow_code: packages whose code may be imported and called to build the networks.

    Returns:
        The estimate; its `sentences` are for a person, and `unknown` says why where nothing can be known.

    Raises:
        ValueError: the networks cannot be read, are no classifiers, or do not fit each other.
    """
    known = as_network(teacher, inputs, allow_code, "teacher")
    judged = as_network(
        student, inputs or known.card.inputs if not isinstance(student, str | Path) else inputs, allow_code, "student"
    )
    _refuse_misfit(judged, known)
    runtime = Runtime(device, precision_for(known, find_device(device)), 0)
    file = Path(student).parent / KEPT if isinstance(student, str | Path) and _in_run(Path(student)) else None
    return estimated(judged, known, accuracy, seconds, runtime, file, quiet)


def estimated(
    student: Network,
    teacher: Network,
    accuracy: float | None,
    seconds: float,
    runtime: Runtime,
    file: Path | None = None,
    quiet: bool = False,
) -> Estimate:
    """The estimate of two networks with cards; the probes are kept in `file`, if one is named."""
    validation = teacher.card.validation
    accuracy = accuracy if accuracy is not None or validation is None else validation.accuracy
    probes = kept_probes(file, teacher) if file else None
    if probes is None:
        # Several threads only wait for each other over the small tensors of a small network.
        with one_thread() if is_small(teacher) else contextlib.nullcontext():
            made = _made(teacher, seconds, runtime, quiet)
        if isinstance(made, str):
            return Estimate(fitted().version, None, accuracy, unknown=made)
        probes = made
        if file:
            probes.save(file, fingerprint(teacher.module))
    ours, theirs = (copy.deepcopy(each.module).to(runtime.device) for each in (teacher, student))
    return conclude(read(ours, theirs, probes, teacher.card.inputs, runtime.device), accuracy)


def _made(teacher: Network, seconds: float, runtime: Runtime, quiet: bool) -> Probes | str:
    """The probes that can be made in about so many seconds, or why there are none."""
    if not gradient_arrives(teacher.module, teacher.card.inputs):
        return "the teacher gives no gradient, so that no images can be pulled out of it"
    least, most = (seconds_for(teacher, images, runtime) for images in (FEWEST, MOST))
    if least > seconds:
        return f"the probes would take about {least:.0f} s here, and {seconds:.0f} s were given"
    images = MOST if most <= seconds else FEWEST + int((MOST - FEWEST) * (seconds - least) / (most - least))
    print_line(f"estimate: making probes of {3 * images} inversions, about {min(most, seconds):.0f} s", quiet)
    began = time.monotonic()
    probes = make_probes(teacher, images, runtime)
    print_line(f"estimate: probes made in {time.monotonic() - began:.0f} s", quiet)
    return probes


def _refuse_misfit(student: Network, teacher: Network) -> None:
    """Raise `ValueError` unless both classify the same number of classes from inputs of the same shape."""
    cards = student.card, teacher.card
    if "segmentation" in (each.task for each in cards):
        raise ValueError("An estimate is of classifiers; for segmentation evaluate on labelled data.")
    if cards[0].classes != cards[1].classes or cards[0].inputs != cards[1].inputs:
        shown = [f"{each.classes} classes from inputs of {each.inputs}" for each in cards]
        raise ValueError(
            f"The student has {shown[0]} and the teacher {shown[1]}, or another scaling; give the teacher that it was "
            "distilled from."
        )


def _in_run(student: Path) -> bool:
    return (student.parent / "run.json").is_file()
