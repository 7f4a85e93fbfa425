"""DFQ, beyond what every method must do."""

import pytest
import torch
from helpers import INPUTS, network

from datafree import Network, synthesize
from datafree.core.runtime import Runtime
from datafree.engine.look import kd
from datafree.engine.method import Problem
from datafree.methods import dfq
from datafree.methods.common.losses import negative_entropy, own_cross_entropy, statistics_distance
from datafree.methods.dfq import DFQ, DFQSynthesizer
from datafree.networks.inside.taps import norm_statistics
from datafree.networks.teacher import Teacher

SMALL = DFQ(latent={"size": 8, "width": 8}, batch=32, lr=1e-2)
NAMES = {
    "adversary": "generator_divergence",
    "statistics": "statistics_distance",
    "cross_entropy": "cross_entropy",
    "balance": "balance",
}


def started(teacher: Network, settings: DFQ = SMALL) -> DFQSynthesizer:
    """DFQ around `teacher`, with a student that nothing has taught."""
    runtime = Runtime("cpu")
    inputs = teacher.card.inputs
    student = network(2, inputs=inputs).module.train()
    with runtime.seeded():
        problem = Problem(Teacher(teacher.module, inputs, runtime), student, inputs, teacher.card.classes)
        return settings.start(problem, runtime)


def objective(made: DFQSynthesizer, teacher: Network) -> float:
    """What the generator lowers, of 64 fakes, in plain arithmetic."""
    x = made.fakes.fresh(64)
    student = made.problem.student.eval()
    with torch.no_grad(), norm_statistics(teacher.module) as seen:
        logits, guess = teacher.module(x), student(x)
    student.train()
    settings = made.settings
    loss = settings.statistics * statistics_distance(seen.values(), settings.scale_free)
    loss = loss + settings.cross_entropy * own_cross_entropy(logits) + settings.balance * negative_entropy(logits)
    return (loss - settings.adversary.weight * kd(guess, logits, 1.0)).item()


@pytest.mark.parametrize("scale_free", [False, True])
def test_the_generator_lowers_its_objective(taught: Network, scale_free: bool) -> None:
    made = started(taught, SMALL.replaced(scale_free=scale_free))
    first = objective(made, taught)
    for _ in range(40):
        made.synthesize(8)
    assert objective(made, taught) < first - 5


@pytest.mark.parametrize("only", NAMES)
def test_each_term_alone_is_lowered_and_others_are_not_computed(
    taught: Network, only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = {
        "adversary": "kd",
        "statistics": "statistics_distance",
        "cross_entropy": "own_cross_entropy",
        "balance": "negative_entropy",
    }
    for name in functions.keys() - {only}:
        monkeypatch.delattr(dfq, functions[name])
    off = {name: {"weight": 0.0} if name == "adversary" else 0.0 for name in functions.keys() - {only}}
    made = started(taught, SMALL.replaced(**off))
    made.synthesize(8)
    first = made.runtime.drain()
    assert set(first) == {NAMES[only]}
    for _ in range(40):
        made.synthesize(8)
        last = made.runtime.drain()
    sign = -1 if only == "adversary" else 1
    assert sign * last[NAMES[only]] < sign * first[NAMES[only]]


def test_without_any_term_the_generator_stands_still(taught: Network) -> None:
    made = started(taught, SMALL.replaced(adversary={"weight": 0.0}, statistics=0, cross_entropy=0, balance=0))
    before = made.fakes.generator.project.weight.clone()
    made.synthesize(8)
    assert torch.equal(before, made.fakes.generator.project.weight)


def test_the_adversary_rises_over_the_run(taught: Network) -> None:
    made = started(taught, SMALL.replaced(adversary={"weight": 2.0, "rise_from": 0.2, "rise_until": 0.6}))
    weights = []
    for done in (0.0, 0.2, 0.4, 0.9):
        made.at(done)
        made.synthesize(8)
        weights.append(made.adversary)
        assert ("generator_divergence" in made.runtime.drain()) == (made.adversary > 0)
    assert weights == pytest.approx([0, 0, 1, 2])


def test_the_students_norms_stand_still_while_the_generator_learns(taught: Network) -> None:
    made = started(taught)
    before = {name: value.clone() for name, value in made.problem.student.state_dict().items()}
    made.synthesize(8)
    assert all(torch.equal(before[name], value) for name, value in made.problem.student.state_dict().items())


def test_without_statistics_a_teacher_needs_no_norms_and_without_an_adversary_no_student() -> None:
    lenet = network(1, "lenet5", INPUTS.model_copy(update={"shape": (1, 32, 32)}))
    with pytest.raises(ValueError, match="dfq with statistics matches batch-norm statistics, and this teacher has none"):
        started(lenet)
    started(lenet, SMALL.replaced(statistics=0)).synthesize(8)
    alone = SMALL.replaced(statistics=0, adversary={"weight": 0.0})
    assert not alone.adversarial
    assert len(synthesize(lenet, alone, 20, batch=8, device="cpu", quiet=True)) == 20
