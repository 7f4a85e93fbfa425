"""The verb `race`: several students of one size get a tenth of the budget each, and the best of them gets what is left."""

import copy
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import nn

from datafree.api.distill import distill
from datafree.api.synthesize import synthesize
from datafree.core.distributed import launch_rank
from datafree.core.files import write_text
from datafree.core.runtime import find_device
from datafree.core.spec import InputSpec, Shape
from datafree.data.sets import TransferSet, as_uint8
from datafree.engine.budget import Budget, parse_budget
from datafree.engine.progress import print_line
from datafree.networks.network import Network
from datafree.networks.outputs import explained
from datafree.networks.shrink.choose import listed
from datafree.networks.sources import Source, as_network
from datafree.reports.metrics import percent, predictions

SHARE = 0.1  # of the budget, for each student
HELD_BACK = 512  # procedural images by which they are judged, of a seed by which none is trained
MOST = 5  # students
_SEED = 7_368_787  # is added to that of the run


def race(
    teacher: Source,
    student: str,
    runners: int,
    *,
    out: str | Path,
    budget: str | None,
    inputs: InputSpec | None = None,
    allow_code: Collection[str] = (),
    student_inputs: Shape | None = None,
    **how: Any,
) -> nn.Module:
    """Distil `runners` students of one size by a tenth of the budget each, then the best of them by the rest, from its start.

    The best is the one that most often names the class that the teacher names, on procedural images that no student was trained
    on. The students of the race are in folders beside `out`, with `.race-1` and so on after its name, and who won and why is in
    `OUT.race.json`. The same call again resumes.

    Args:
        teacher: as in `distill`.
        student: a size, as in `distill`: `4x`, `5ms`.
        runners: number of students: the one that the size takes, others of the list in their order, and last the pruned
            teacher, where torch-pruning is installed and can do it.
        out: folder of the run.
        budget: as in `distill`; it includes the race, and is needed.
        inputs: as in `distill`.
        allow_code: as in `distill`.
        student_inputs: as in `distill`.
        how: further arguments of `distill`.

    Returns:
        The student, in eval mode.

    Raises:
        ValueError: as `distill` does; `runners` is not 2 to 5, or there are several processes.
    """
    if not 2 <= runners <= MOST:
        raise ValueError(f"A race has 2 to {MOST} students, not {runners}; pass --race 3, for example.")
    if launch_rank()[1] > 1:
        raise ValueError(f"A race has one process, not {launch_rank()[1]}; start it without torchrun.")
    if budget is None:
        raise ValueError("A race shares a budget among its students; pass --budget 20m, for example.")
    limit, out, quiet = parse_budget(budget), Path(out), bool(how.get("quiet"))
    network = as_network(teacher, inputs, allow_code, "teacher")
    out.parent.mkdir(parents=True, exist_ok=True)
    file = out.with_name(f"{out.name}.race.json")
    names = _begun(file, student, runners)
    if not names:
        found = [each.name for each in listed(network, student, student_inputs, allow_code).candidates]
        pruned = [name for name in found if name.endswith("-pruned")]
        names = [*[name for name in found if name not in pruned][: runners - len(pruned)], *pruned]
    write_text(file, json.dumps({"student": student, "runners": runners, "names": names}, indent=2) + "\n")
    shared: dict[str, Any] = {"allow_code": allow_code, "student_inputs": student_inputs, **how}
    distilled = [
        distill(network, name, out=out.with_name(f"{out.name}.race-{i}"), budget=_part(limit, SHARE), **shared)
        for i, name in enumerate(names, 1)
    ]
    seed, device = how.get("seed", 0) + _SEED, how.get("device", "auto")
    held = synthesize(network, "procedural-light", HELD_BACK, seed=seed, device=device, quiet=True)
    scores = {name: _agreement(network, each, held, device) for name, each in zip(names, distilled, strict=True)}
    best = max(scores, key=lambda name: scores[name])
    result = {"agreement": {name: round(score, 2) for name, score in scores.items()}, "taken": best}
    write_text(file, json.dumps({"student": student, "runners": runners, "names": names, **result}, indent=2) + "\n")
    shown = ", ".join(f"{name} {score:.1f} %" for name, score in scores.items())
    print_line(f"race: {best} agrees most often with the teacher on {HELD_BACK} images held back: {shown}", quiet)
    return distill(network, best, out=out, budget=_part(limit, 1 - SHARE * len(names)), **shared)


def _part(limit: Budget, share: float) -> str:
    """A share of a budget, as text."""
    if limit.images is not None:
        return f"{max(1, int(share * limit.images))}images"
    assert limit.seconds is not None
    return f"{share * limit.seconds:g}s{'-cpu' if limit.clock == 'cpu' else ''}"


def _begun(file: Path, student: str, runners: int) -> list[str]:
    """The students of the race that `file` was written by, if it was this one."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        same = found["student"] == student and found["runners"] == runners
        return [str(name) for name in found["names"]][:runners] if same else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _agreement(teacher: Network, student: nn.Module, held: TransferSet, device: str) -> float:
    """Share of the images held back, or of their pixels, for which both name the same class, percent."""
    where, inputs = find_device(device), teacher.card.inputs
    pixels = as_uint8(held.pixels[0])
    with explained("student", student, inputs):
        one, other = (predictions(each, pixels, inputs, where) for each in (copy.deepcopy(teacher.module).to(where), student))
    return percent(one == other)
