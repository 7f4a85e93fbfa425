"""The command `datafree estimate`."""

import json
from pathlib import Path

import datafree
from datafree.cli.arguments import AsJson, Packages
from datafree.core.terminal import show


def estimate(
    student: Path,
    *,
    teacher: Path,
    accuracy: float | None = None,
    seconds: float = 120.0,
    device: str = "auto",
    allow_code: Packages = (),
    as_json: AsJson = False,
) -> None:
    """Estimate how good a student is on real images, without a single one.

    Args:
        student: A network file; the probes are kept beside it if it is a run's.
        teacher: The network that it was distilled from.
        accuracy: The teacher's accuracy on real images, percent, if its card does not say it.
        seconds: Wall time that the probes may take, about.
        device: auto, cpu, cuda, cuda:1, ...
        allow_code: Packages whose code may be imported and called to build the networks.
        as_json: Print the estimate as JSON, with all readings.
    """
    found = datafree.estimate(
        student, teacher, accuracy=accuracy, seconds=seconds, device=device, quiet=as_json, allow_code=allow_code
    )
    show(*([json.dumps(found.record())] if as_json else found.sentences()))
