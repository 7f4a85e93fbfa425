"""The function `inspect`: the content of a network file or of a transfer set, for a person to read."""

import time
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from datafree.api.scaling import describe_scaling
from datafree.core.modes import fastest_layout
from datafree.data.drawing import save_grid
from datafree.data.sets import TransferSet, as_uint8, is_set, read_set, spread
from datafree.networks.building.work import MOST_BYTES, Work, refuse_costly
from datafree.networks.inside.cost import LONGEST, latency_ms, multiply_adds
from datafree.networks.inside.health import Health, examine
from datafree.networks.network import Network
from datafree.networks.outputs import LARGE, describe_broken, explained, probe, taken_from
from datafree.networks.saved.weights import describe_non_finite, parameters
from datafree.networks.teacher import NOTES, REFUSED
from datafree.networks.validation import Validation
from datafree.networks.whole import load
from datafree.recipes.auto import default_seconds, look_seconds, pick

PREVIEW_IMAGES = 100
CLASSES_SHOWN = 20  # of a set
OF_ANSWERS = ("outputs", "logit scale", "noise", "constants", "gradient")  # lines that mean nothing for a broken network
MOST_LATENCY = 300  # ms of a pass, beyond which a network is not examined: that takes a dozen, forward and backward
MOST_KEPT = MOST_BYTES // 2  # bytes that a backward pass keeps, beyond which it is not examined: a probe holds twice as many


def inspect(file: str | Path, *, preview: str | Path | None = None, allow_code: Collection[str] = ()) -> dict[str, str]:
    """Describe a network file or a transfer set for a person.

    Args:
        file: network file, whole network without code (`.pt2`, `.onnx`, TorchScript) or transfer set; for a set in shards
            their common name.
        preview: PNG to write with some images of the set; None: beside the set, as NAME.preview.png.
        allow_code: packages whose code may be imported and called to build the network.

    Returns:
        Names and values as text, first `card` as JSON. For a network: number of weights, multiply-adds and latency of one
        input, size of the file, an examination by noise and constants (outputs, logit scale, statistics of the norms,
        gradient to the input, speed) unless a pass takes long, whether mean and std fit the first batch norm, and what `auto`
        would do. For a set: number of images, classes,
        entropy of the targets, path of the preview.

    Raises:
        ValueError: the file is neither, cannot be read, or is of a network of which a pass is beyond the limits of
            `networks/building/work.py`.
    """
    file = Path(file)
    if is_set(file):
        return _set(file, Path(preview) if preview else file.with_suffix(".preview.png"))
    return _network(file, allow_code)


def _network(file: Path, allow_code: Collection[str]) -> dict[str, str]:
    network = load(file, allow_code)
    inputs = network.card.inputs
    work = refuse_costly("network", network.module, inputs)
    began = time.perf_counter()
    logits = probe("network", network.module, inputs)
    seconds = (time.perf_counter() - began) / len(logits)
    network.card.check(logits)
    broken = describe_non_finite(network.module)
    broken = f"{broken} hold NaN or infinity" if broken else describe_broken(network.module, inputs, logits)
    with explained("network", network.module, inputs):
        fastest_layout(network.module)
        latency = latency_ms(network.module, inputs) if seconds < LONGEST else 1000 * seconds
        return _examined(network, file, work, latency, broken)


def _validated(found: Validation | None) -> dict[str, str]:
    if found is None:
        return {}
    measured = f"measured on {found.images:,} images of {found.source}" if found.images else "as stated"
    return {"accuracy": f"{found.accuracy:.2f} %, {measured}"}


def _examined(network: Network, file: Path, work: Work | None, latency: float, broken: str) -> dict[str, str]:
    inputs = network.card.inputs
    adds = work.multiply_adds if work and inputs.values > LARGE else multiply_adds(network.module, inputs)
    lines = {
        "card": network.card.model_dump_json(indent=2, exclude={"validation"}),
        **_validated(network.card.validation),
        **({"read as": "; ".join(network.notes)} if network.notes else {}),
        "weights": f"{parameters(network.module):,}",
        "multiply-adds": f"{adds:,} an input",
        **({"answer": f"takes {taken}"} if (taken := taken_from(network.module, inputs)) else {}),
        "file": f"{_bytes(file) / 2**20:.2f} MiB",
        "latency": f"{latency:.2f} ms an input on this CPU",
    }
    if broken:
        lines["broken"] = f"{broken}: its outputs mean nothing"
    if work and (work.backward > MOST_KEPT or latency > MOST_LATENCY):
        return lines | {"examination": f"left out: a backward pass of one input takes {_cost(work, latency)} here"}
    health = examine(network.module, inputs, work)
    found = describe_health(health)
    if broken:
        return lines | {name: text for name, text in found.items() if name not in OF_ANSWERS}
    return lines | found | _scaling(network) | {"auto": _would_take(network, health)}


def _scaling(network: Network) -> dict[str, str]:
    """Whether mean and std fit the first norm; nothing of a student, whose are the teacher's and whose images were made."""
    made = any(event.get("event") == "distilled" for event in network.card.history)
    return {} if made else {"scaling": describe_scaling(network.module, network.card.inputs)}


def _bytes(file: Path) -> int:
    """Size of a file, or of all files in a folder; 0 for a name of the Hub."""
    files = file.iterdir() if file.is_dir() else [file]
    return sum(each.stat().st_size for each in files if each.is_file())


def _cost(work: Work, latency: float) -> str:
    """Memory and time of a pass forward and back to the input, the time by that of a forward pass, ms."""
    return f"{work.backward / 2**20:,.0f} MiB and {3 * latency / 1000:.0f} s"


def _would_take(network: Network, health: Health) -> str:
    """What the recipe `auto` would do with this network as a teacher, and why."""
    if health.outputs in REFUSED:
        return f"would refuse it: it {REFUSED[health.outputs]}"
    seconds = default_seconds(health)
    recipe, why = pick(network.card.task, network.card.inputs, health, seconds / look_seconds(health))
    return f"would take {recipe.method.name}, {seconds / 60:.0f} minutes by default ({why})"


def describe_health(health: Health) -> dict[str, str]:
    """What an examination found, for a person to read, with what to do where something is wrong."""
    norms = f"{health.norms}, with running statistics of some data" if health.norms_sane else f"{health.norms}, as first set"
    gradient = "reaches the input" if health.gradient else "does not reach the input: only images that need none can be used"
    outputs = NOTES.get(health.outputs, health.outputs)
    weights = "half precision; convert with .float() before packing" if health.half else "single precision or more"
    return {
        "outputs": outputs,
        "logit scale": f"{health.logit_scale:.3g} over the classes, for noise",
        "batch norms": norms if health.norms else "none",
        "noise": f"{health.probes} images of it are called {health.noise_classes} classes",
        "constants": f"answers to black, grey and white differ by {health.constant_spread:.2g} of the logit scale",
        "gradient": gradient,
        "dropout": "yes" if health.dropout else "no",
        "weights in": weights,
        "speed": f"{1 / health.seconds_per_image:,.0f} images/s forward and backward here",
        "memory": f"{health.bytes_per_image / 2**20:.1f} MiB an image for a backward pass",
    }


def _set(file: Path, preview: Path) -> dict[str, str]:
    found = read_set(file)
    save_grid(as_uint8(found.take(spread(len(found), PREVIEW_IMAGES))), preview)
    return {"card": found.card.model_dump_json(indent=2), **describe_set(found), "preview": str(preview)}


def describe_set(found: TransferSet) -> dict[str, str]:
    """Number of images, provenance, classes, confidence of the teacher and entropy of the targets: names to text."""
    lines = {"images": f"{len(found):,} in {len(found.pixels)} file(s)", "provenance": found.card.provenance}
    if found.logits:
        logits = torch.cat(found.logits).float()
        counts = torch.bincount(logits.argmax(1), minlength=logits.shape[1])
        lines["classes (teacher's argmax)"] = _most_frequent(counts)
        confident = int((logits.softmax(1).amax(1) >= 0.9).sum())
        lines["teacher's probability >= 0.9"] = f"{confident:,} images, {100 * confident / len(logits):.1f} %"
    if found.targets:
        targets = torch.cat(found.targets).float()
        entropy = torch.special.entr(targets).sum(1)
        uniform = torch.tensor(float(targets.shape[1])).log()
        spread_out = f" ± {entropy.std():.3f}" if len(entropy) > 1 else ""
        lines["entropy of the soft targets"] = f"{entropy.mean():.3f}{spread_out} nats (uniform: {uniform:.3f})"
    return lines


def _most_frequent(counts: Tensor) -> str:
    """The number of images of each class, `counts` [classes], or of the `CLASSES_SHOWN` that have most if there are more."""
    shown = counts.argsort(descending=True, stable=True)[:CLASSES_SHOWN].sort().values
    text = " ".join(f"{i}:{count}" for i, count in zip(shown.tolist(), counts[shown].tolist(), strict=True))
    hidden = len(counts) - len(shown)
    return f"{text} and {hidden:,} classes of no more images" if hidden else text
