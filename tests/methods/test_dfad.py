"""DFAD, beyond what every method must do."""

import pytest
import torch
from helpers import INPUTS, network

from datafree import Network
from datafree.core.runtime import Runtime
from datafree.engine.method import Problem
from datafree.methods.common.losses import statistics_distance
from datafree.methods.dfad import DFAD, DFADSynthesizer
from datafree.networks.inside.taps import norm_statistics
from datafree.networks.teacher import Teacher


def adversary(teacher: Network, **settings: object) -> DFADSynthesizer:
    """DFAD around `teacher`, with a student that nothing has taught."""
    runtime = Runtime("cpu")
    inputs = teacher.card.inputs
    student = network(2, inputs=inputs).module.train()
    with runtime.seeded():
        problem = Problem(Teacher(teacher.module, inputs, runtime), student, inputs, teacher.card.classes)
        return DFAD(latent={"size": 8, "width": 8}, batch=32, lr=1e-2, **settings).start(problem, runtime)  # type: ignore[arg-type]


def distance_after(teacher: Network, rounds: int, **settings: object) -> float:
    """How far the fakes' statistics are from those that the teacher remembers, after so many generator steps."""
    made = adversary(teacher, **settings)
    for _ in range(rounds):
        x = made.synthesize(64).x
    with torch.no_grad(), norm_statistics(teacher.module) as seen:
        teacher.module(x)
    return statistics_distance(seen.values(), scale_free=True).item()


def test_statistics_bring_the_fakes_near_what_the_teacher_remembers(taught: Network) -> None:
    apart, near = (distance_after(taught, 40, statistics=weight) for weight in (0.0, 10.0))
    assert near < 0.5 * apart
    assert near < 0.5 * distance_after(taught, 1, statistics=10.0)


def test_their_distance_is_logged_only_where_it_counts(taught: Network) -> None:
    for weight, terms in ((0.0, {"generator_gap"}), (1.0, {"generator_gap", "statistics_distance"})):
        made = adversary(taught, statistics=weight)
        made.synthesize(8)
        assert set(made.runtime.drain()) == terms


def test_a_teacher_without_norms_has_no_statistics_to_match() -> None:
    lenet = network(1, "lenet5", INPUTS.model_copy(update={"shape": (1, 32, 32)}))
    with pytest.raises(ValueError, match="this teacher has none; use dfad, or sttss"):
        adversary(lenet, statistics=1.0)
    adversary(lenet)  # and the paper's DFAD asks for none
