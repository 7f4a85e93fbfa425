"""The loop that every inversion shares, and the plateau of its loss."""

import pytest
import torch
from torch import Tensor

from datafree.core.runtime import Runtime
from datafree.methods.common.inversion import Inversion, Plateau, descend

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
