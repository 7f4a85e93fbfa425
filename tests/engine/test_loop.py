"""The loop: a step in parts is the step as a whole."""

from pathlib import Path

import pytest
import torch
from helpers import INPUTS, network
from torch import nn

from datafree import Plan, Recipe, Stored, distill
from datafree.engine import loop

PLAN = Plan(rounds=3, steps=2, batch=12, lr=0.05, log_every=1, eval_every=0, grid_every=0)


def without_norms() -> nn.Module:
    """A student whose gradient is a mean over images, which batch norms would not leave it."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_a_step_in_micro_batches_is_the_step_of_the_whole_batch(
    images: Path, clip: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = loop.Batch.part
    monkeypatch.setattr(loop.Batch, "part", lambda self, rows: sizes.append(len(real(self, rows).x)) or real(self, rows))

    def student(micro_batch: int) -> torch.Tensor:
        plan = PLAN.replaced(micro_batch=micro_batch, clip=clip)
        module = without_norms()
        distill(network(1), module, inputs=INPUTS, recipe=Recipe(Stored(path=images), plan, "test"), quiet=True, device="cpu")
        return torch.cat([weight.detach().flatten() for weight in module.parameters()])

    whole, parts, start = student(0), student(5), without_norms()
    assert {5, 2} <= set(sizes)
    moved = (whole - torch.cat([weight.detach().flatten() for weight in start.parameters()])).norm()
    assert (whole - parts).norm() < 1e-4 * moved


def test_a_clipped_step_is_shorter(images: Path) -> None:
    def moved(clip: float) -> float:
        module, start = without_norms(), without_norms()
        plan = PLAN.replaced(clip=clip, rounds=1, steps=1, momentum=0.0, weight_decay=0.0)
        distill(network(1), module, inputs=INPUTS, recipe=Recipe(Stored(path=images), plan, "test"), quiet=True, device="cpu")
        pairs = zip(module.parameters(), start.parameters(), strict=True)
        return torch.cat([(one - other).detach().flatten() for one, other in pairs]).norm().item()

    assert moved(0.01) == pytest.approx(0.05 * 0.01, rel=1e-3)  # rate x norm
    assert moved(0.0) > 2 * moved(0.01)
