"""The model card of a student for the Hub, and its config for a person: only what the run's record says."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from datafree.core.terminal import printable
from datafree.networks.network import Card

PIPELINES = {"classification": "image-classification", "segmentation": "image-segmentation"}


def config(card: Card) -> dict[str, Any]:
    """What a person wants to know of the network; it loads by the card in its weights file, not by this."""
    return {
        "library_name": "datafree",
        "architecture": card.architecture,
        "options": card.options,
        "num_classes": card.classes,
        "task": card.task,
        "inputs": card.inputs.model_dump(mode="json"),
    }


def model_card(card: Card, record: Mapping[str, Any]) -> str:
    """The text of README.md. No path of the machine where the run was made is in it: data are called by their file's name."""
    identity, provenance = record["identity"], record["provenance"]
    good = _good(provenance, record.get("results", {}))
    teacher, student = record["teacher"], record["student"]
    facts = {
        "method": f"`{identity['method']['name']}`; {record['source']}",
        "teacher": f"{_seen(teacher['parameters'])} `{identity['teacher']}`",
        "student": f"`{card.architecture}`, {student['parameters']:,} weights, SHA-256 `{student['sha256']}`",
        "inputs": f"{card.inputs}, mean {_numbers(card.inputs.mean)}, std {_numbers(card.inputs.std)}, of pixels in [0, 1]",
        "classes": str(card.classes),
        "seed": str(identity["seed"]),
        "precision": str(identity["precision"]),
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
    }
    rows = [f"| {name} | {_safe(value)} |" for name, value in facts.items()]
    return "\n".join(
        [
            "---",
            "library_name: datafree",
            f"pipeline_tag: {PIPELINES[card.task]}",
            "tags:",
            "  - knowledge-distillation",
            "  - data-free",
            "---",
            "",
            f"# {_safe(card.architecture)}, distilled without data",
            "",
            _safe(_made(provenance)),
            "",
            _safe(good),
            "",
            "| | |",
            "|---|---|",
            *rows,
            "",
            "```python",
            "import datafree",
            "",
            'network = datafree.load("hf-hub:OWNER/NAME")  # or the folder',
            "logits = network.module(network.card.inputs.to_network(pixels))  # uint8 [B, C, H, W]",
            "```",
            "",
        ]
    )


def _made(provenance: Mapping[str, Any]) -> str:
    if provenance["data_free"]:
        return "A smaller network that learned from a trained one, its teacher. No real image touched its training."
    return f"A smaller network that learned from a trained one, its teacher, on {_name(provenance['training'])}."


def _good(provenance: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """How good the last student was, if that was measured."""
    seen = provenance["evaluation"]
    for name, word in (("accuracy", "accuracy"), ("miou", "mIoU")):
        if seen != "none" and f"student_{name}" in results:
            student, teacher = results[f"student_{name}"], results[f"teacher_{name}"]
            return (
                f"Its {word} is {student:.2f} % on the {seen['images']:,} images of {_name(seen['data'])}, its teacher's "
                f"{teacher:.2f} %. They judged the last student and did nothing else."
            )
    return "How good it is on real images was not measured."


def _seen(weights: int) -> str:
    """What the record's hash of the teacher is of."""
    return f"{weights:,} weights, SHA-256 of its weights" if weights else "a black box, SHA-256 of some of its answers"


def _name(source: object) -> str:
    return PurePath(str(source)).name


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _safe(text: str) -> str:
    """`text` on one line, without what Markdown or HTML would read as a table, a tag or a link of its own."""
    return printable(text).replace("|", "/").replace("<", "&lt;").replace("](", "] (")
