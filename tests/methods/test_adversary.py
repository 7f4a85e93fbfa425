"""The weight of the adversary over a run, and its term."""

import pytest
import torch
from torch import nn

from datafree.core.runtime import Runtime
from datafree.methods.common.adversary import Adversary, decision_adversary
from datafree.methods.common.losses import agreed_divergence


def test_it_is_nothing_then_rises_evenly_then_is_whole() -> None:
    rising = Adversary(weight=2.0, rise_from=0.2, rise_until=0.6)
    assert [rising.at(done) for done in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([0, 0, 1, 2, 2])


def test_it_may_begin_at_once_or_all_at_a_time() -> None:
    assert Adversary(weight=2.0).at(0.0) == 2.0
    sudden = Adversary(weight=2.0, rise_from=0.5, rise_until=0.5)
    assert [sudden.at(done) for done in (0.0, 0.4, 0.5, 0.6)] == [0, 0, 2, 2]


def test_a_rise_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rise_until 0.1 lies before rise_from 0.2"):
        Adversary(rise_from=0.2, rise_until=0.1)


def test_its_term_is_the_weighted_divergence_and_asks_nobody_without_a_weight() -> None:
    torch.manual_seed(0)
    student, view, logits = nn.Flatten(), torch.randn(6, 1, 2, 2), torch.randn(6, 4)
    (term,) = decision_adversary(3.0, student, Runtime("cpu"))(view, view, logits)
    assert torch.equal(term, -3.0 * agreed_divergence(view.flatten(1), logits))
    assert term < 0
    student.register_forward_hook(lambda *_: pytest.fail("the student was asked"))
    assert not list(decision_adversary(0.0, student, Runtime("cpu"))(view, view, logits))
