"""DAFL, beyond what every method must do."""

import math

import pytest
import torch
from helpers import INPUTS, network
from torch import Tensor

from datafree import Network, synthesize
from datafree.core.runtime import Runtime
from datafree.engine.method import Problem
from datafree.methods import dafl
from datafree.methods.common.losses import negative_entropy
from datafree.methods.dafl import DAFL, DAFLSynthesizer
from datafree.networks.teacher import Teacher

SMALL = DAFL(latent={"size": 8, "width": 8}, batch=32, lr=1e-2)


def started(teacher: Network, settings: DAFL = SMALL) -> DAFLSynthesizer:
    """DAFL around `teacher`, with a student that nothing has taught."""
    runtime = Runtime("cpu")
    inputs = teacher.card.inputs
    student = network(2, inputs=inputs).module.train()
    with runtime.seeded():
        problem = Problem(Teacher(teacher.module, inputs, runtime), student, inputs, teacher.card.classes)
        return settings.start(problem, runtime)


def terms(teacher: Network, x: Tensor) -> dict[str, float]:
    """The three losses of the paper on x, by plain loops over images and classes."""
    with torch.no_grad():
        hidden = teacher.module.fc1.register_forward_hook(lambda *call: inside.append(call[2].relu()))
        inside: list[Tensor] = []
        logits = teacher.module(x)
        hidden.remove()
    answers = [[math.exp(v) / sum(math.exp(w) for w in row) for v in row] for row in logits.tolist()]
    means = [sum(answer[c] for answer in answers) / len(answers) for c in range(len(answers[0]))]
    features = [value for row in inside[0].tolist() for value in row]
    return {
        "cross_entropy": -sum(math.log(max(answer)) for answer in answers) / len(answers),
        "balance": sum(p * math.log(p) for p in means),
        "activation": -sum(features) / len(features),
    }


def test_the_terms_are_those_of_a_naive_loop_on_the_fakes_before_the_step(taught: Network) -> None:
    made = started(taught)
    x = made.synthesize(32).x
    assert made.runtime.drain() == pytest.approx(terms(taught, x), rel=1e-4)


def test_the_generator_lowers_its_loss(taught: Network) -> None:
    made = started(taught)

    def loss() -> float:
        found = terms(taught, made.fakes.fresh(256))
        return sum(getattr(SMALL, name) * value for name, value in found.items())

    first = loss()
    for _ in range(60):
        made.synthesize(32)
    assert loss() < first - 0.3


@pytest.mark.parametrize(("term", "fall"), [("cross_entropy", 0.3), ("balance", 0.2), ("activation", 1.0)])
def test_each_term_alone_is_lowered(taught: Network, term: str, fall: float) -> None:
    off = {name: 0.0 for name in ("cross_entropy", "balance", "activation") if name != term}
    made = started(taught, SMALL.replaced(**off))
    first = terms(taught, made.synthesize(32).x)[term]
    for _ in range(40):
        x = made.synthesize(32).x
    assert terms(taught, x)[term] < first - fall


@pytest.mark.parametrize("left_out", ["cross_entropy", "balance", "activation"])
def test_a_term_of_weight_nil_is_not_computed(taught: Network, left_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"cross_entropy": "own_cross_entropy", "balance": "negative_entropy", "activation": "layer_inputs"}
    monkeypatch.delattr(dafl, names[left_out])
    made = started(taught, SMALL.replaced(**{left_out: 0}))
    made.synthesize(32)
    assert set(made.runtime.drain()) == names.keys() - {left_out}


def test_without_any_term_there_is_nothing_to_learn() -> None:
    with pytest.raises(ValueError, match="the generator has nothing to learn; give cross_entropy"):
        SMALL.replaced(cross_entropy=0, balance=0, activation=0)


def test_the_balances_weight_is_the_papers_of_a_logarithm_to_base_ten() -> None:
    logits = torch.randn(6, 10)
    p = logits.softmax(1).mean(0)
    assert DAFL().balance * negative_entropy(logits).item() == pytest.approx(5 * (p * p.log10()).sum().item(), rel=1e-5)


def test_steps_of_a_round_may_come_before_the_students_since_none_looks_at_it(taught: Network) -> None:
    """The paper's order, generator and student in turn on each batch, is that of rounds of one step."""
    one, other = started(taught), started(taught)
    in_turn = []
    for _ in range(3):
        in_turn.append(one.synthesize(32).x)
        with torch.no_grad():
            for weight in one.problem.student.parameters():
                weight.add_(1)
    assert torch.equal(other.synthesize(96).x, torch.cat(in_turn))


def test_the_students_loss_is_the_divergence_at_temperature_one(taught: Network) -> None:
    made = started(taught)
    batch = made.synthesize(8)
    student = made.problem.student.eval()
    with torch.no_grad():
        p, q = taught.module(batch.x).softmax(1), student(batch.x).softmax(1)
    naive = sum(a * math.log(a / b) for a, b in zip(p.flatten().tolist(), q.flatten().tolist(), strict=True)) / 8
    assert made.loss(student, batch).item() == pytest.approx(naive, rel=1e-4)


def test_a_set_can_be_made_without_a_student_and_a_teacher_needs_no_norms() -> None:
    lenet = network(1, "lenet5", INPUTS.model_copy(update={"shape": (1, 32, 32)}))
    made = synthesize(lenet, SMALL, 20, batch=8, device="cpu", quiet=True)
    assert len(made) == 20
