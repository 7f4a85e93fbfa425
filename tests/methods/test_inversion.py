"""The loop that every inversion shares, and the plateau of its loss."""

import pytest
import torch
from torch import Tensor

from datafree.core.runtime import Runtime
from datafree.methods.common.history import History
from datafree.methods.common.inversion import Inversion, Plateau, descend
from datafree.networks.inside.taps import NormStatistics

FAST = Inversion(lr=0.4, betas=(0.9, 0.999))


def bowl(x: Tensor) -> Tensor:
    return (x - 0.7).square().sum((1, 2, 3))


def test_images_are_the_best_of_their_own_iterates() -> None:
    x = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    seen: list[tuple[Tensor, Tensor]] = []

    def loss(x: Tensor) -> Tensor:
        value = bowl(x)
        seen.append((x.detach().clone(), value.detach().clone()))
        return value

    # A rate this high overshoots, so that the best is not the last.
    best, least = descend([x], lambda: x, loss, Runtime("cpu"), FAST, steps=25)
    values = torch.stack([value for _, value in seen])
    assert torch.equal(least, values.min(0).values)
    for image, step in enumerate(values.argmin(0).tolist()):
        assert torch.equal(best[image], seen[step][0][image])
    assert len(set(values.argmin(0).tolist())) > 1
    assert (values[-1] > least).any()


def test_one_loss_for_all_keeps_one_moment() -> None:
    x = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    seen: list[Tensor] = []

    def loss(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return bowl(x).mean().view(1)

    best, least = descend([x], lambda: x, loss, Runtime("cpu"), FAST, steps=25)
    means = torch.stack([bowl(x).mean() for x in seen])
    assert torch.equal(least[0], means.min())
    assert torch.equal(best, seen[int(means.argmin())])
    assert int(means.argmin()) < 24


def test_leaves_may_be_what_makes_the_images_and_are_put_back() -> None:
    z = torch.zeros(2, 3, requires_grad=True)
    slow = FAST.replaced(lr=0.1)
    best, _ = descend([z], lambda: z.tanh().view(2, 3, 1, 1), bowl, Runtime("cpu"), slow, 200, after=lambda: z.clamp_(max=0.5))
    assert torch.allclose(best, torch.tensor(0.5).tanh())


@pytest.mark.parametrize(("patience", "steps"), [(0, 400), (20, 60)])
def test_a_flat_loss_ends_it(patience: int, steps: int) -> None:
    x = torch.zeros(1, 1, 1, 1, requires_grad=True)
    made = 0

    def loss(x: Tensor) -> Tensor:
        nonlocal made
        made += 1
        return 1 + 0 * bowl(x)

    descend([x], lambda: x, loss, Runtime("cpu"), FAST.replaced(lr=0.1, patience=patience), steps=400)
    assert made == steps


def test_a_plateau_is_told_when_the_loss_has_stopped_falling_and_not_before() -> None:
    plateau = Plateau(patience=10)
    falling = [1 - 0.001 * i for i in range(500)]
    assert not any(plateau.update(torch.tensor(value)) for value in falling)
    flat = [plateau.update(torch.tensor(falling[-1])) for _ in range(50)]
    assert True in flat
    assert flat.index(True) <= 40


def test_no_patience_never_stops() -> None:
    plateau = Plateau(patience=0)
    assert not any(plateau.update(torch.tensor(1.0)) for _ in range(500))


def norms(mean: float, variance: float) -> dict[str, NormStatistics]:
    """One norm of one channel, whose running statistics are 0 and 1."""
    seen = [torch.tensor([value]) for value in (mean, variance, 0.0, 1.0)]
    return {"norm": NormStatistics(*seen)}


def test_a_history_counts_earlier_batches_with_its_share_and_survives_a_restart() -> None:
    history = History(0.9)
    (first,) = history.joined(norms(1.0, 2.0))
    assert (first.mean.item(), first.variance.item()) == (1.0, 2.0), "there is nothing to join yet"
    history.update()
    again = History(0.9)
    again.load_state_dict(history.state_dict())
    for each in (history, again):
        (second,) = each.joined(norms(5.0, 4.0))
        assert second.mean.item() == pytest.approx(0.9 * 1 + 0.1 * 5)
        assert second.variance.item() == pytest.approx(0.9 * 2 + 0.1 * 4)
        each.update()
        (third,) = each.joined(norms(0.0, 0.0))
        assert third.mean.item() == pytest.approx(0.9 * (0.9 * 1 + 0.1 * 5))


def test_without_a_history_a_batch_stands_on_its_own() -> None:
    history = History(0.0)
    for mean in (1.0, 5.0):
        (seen,) = history.joined(norms(mean, 1.0))
        assert seen.mean.item() == mean
        history.update()
    assert history.state_dict() == {"averages": {}}


@pytest.mark.parametrize("n", [5, 10, 23])
def test_balanced_labels_come_equally_often_and_in_random_order(n: int) -> None:
    labels = Inversion(balanced=True).labels(n, 10, Runtime("cpu"))
    counts = torch.bincount(labels, minlength=10)
    assert counts.max() - counts.min() <= 1
    assert labels.tolist() != sorted(labels.tolist())
