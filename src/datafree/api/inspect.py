"""The function `inspect`: the content of a network file or of a transfer set, for a person to read."""

from collections.abc import Collection
from pathlib import Path

import torch

from datafree.core.modes import fastest_layout
from datafree.data.drawing import save_grid
from datafree.data.sets import TransferSet, as_uint8, is_set, read_set, spread
from datafree.networks.cost import latency_ms, multiply_adds
from datafree.networks.network import load
from datafree.networks.weights import parameters

PREVIEW_IMAGES = 100


def inspect(file: str | Path, *, preview: str | Path | None = None, allow_code: Collection[str] = ()) -> dict[str, str]:
    """Describe a network file or a transfer set for a person.

    Args:
        file: network file or transfer set; for a set in shards their common name.
        preview: PNG to write with some images of the set; None: beside the set, as NAME.preview.png.
        allow_code: packages whose code may be imported and called to build the network.

    Returns:
        Names and values as text, first `card` as JSON. For a network: number of weights, multiply-adds and latency of one
        input, size of the file. For a set: number of images, classes, entropy of the targets, path of the preview.

    Raises:
        ValueError: the file is neither, or cannot be read.
    """
    file = Path(file)
    if is_set(file):
        return _set(file, Path(preview) if preview else file.with_suffix(".preview.png"))
    return _network(file, allow_code)


def _network(file: Path, allow_code: Collection[str]) -> dict[str, str]:
    network = load(file, allow_code)
    inputs = network.card.inputs
    lines = {
        "card": network.card.model_dump_json(indent=2),
        "weights": f"{parameters(network.module):,}",
        "multiply-adds": f"{multiply_adds(network.module, inputs):,} an input",
        "file": f"{file.stat().st_size / 2**20:.2f} MiB",
    }
    fastest_layout(network.module)
    return lines | {"latency": f"{latency_ms(network.module, inputs):.2f} ms an input on this CPU"}


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
        lines["classes (teacher's argmax)"] = " ".join(f"{i}:{count}" for i, count in enumerate(counts.tolist()))
        confident = int((logits.softmax(1).amax(1) >= 0.9).sum())
        lines["teacher's probability >= 0.9"] = f"{confident:,} images, {100 * confident / len(logits):.1f} %"
    if found.targets:
        targets = torch.cat(found.targets).float()
        entropy = torch.special.entr(targets).sum(1)
        uniform = torch.tensor(float(targets.shape[1])).log()
        lines["entropy of the soft targets"] = f"{entropy.mean():.3f} ± {entropy.std():.3f} nats (uniform: {uniform:.3f})"
    return lines
