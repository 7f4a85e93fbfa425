"""The generator that is kept: its fakes, in passes, with and without gradients."""

import pytest
import torch
from helpers import INPUTS, network
from torch import Tensor

from datafree.core.runtime import Runtime
from datafree.engine.method import Problem
from datafree.methods.common.fakes import Fakes
from datafree.methods.common.generators import Latent
from datafree.networks.teacher import Teacher


def fakes(batch: int = 8, betas: tuple[float, float] = (0.9, 0.999)) -> Fakes:
    runtime = Runtime("cpu")
    with runtime.seeded():
        problem = Problem(Teacher(network(1).module, INPUTS, runtime), network(2).module, INPUTS, 10)
        return Fakes(Latent(size=8, width=8), batch, 1e-2, problem, runtime, betas)


def test_fakes_come_in_passes_whose_batch_norm_sees_them_together() -> None:
    made, again = fakes(), fakes()
    whole = made.fresh(19)
    again.generator.train()
    with torch.no_grad():
        parts = [again.generator(again.runtime.noise(size, 8)) for size in (8, 8, 3)]
    assert torch.equal(whole, torch.cat(parts))


def test_gradients_reach_the_generator_only_where_it_learns() -> None:
    made = fakes()
    z = made.noise()
    assert z.shape == (8, 8)
    learned, plain = made.learned(z), made.images(z)
    assert torch.equal(learned, plain)
    assert not plain.requires_grad
    learned.square().mean().backward()
    assert all(weight.grad is not None for weight in made.generator.parameters())


def test_a_step_goes_down_the_weighted_sum_and_notes_each_term() -> None:
    made, again = fakes(), fakes()
    x = made.learned(made.noise())
    made.step([("mean", -2.0, x.mean()), ("spread", 3.0, x.var())])
    y = again.learned(again.noise())
    again.runtime.minimize(-2 * y.mean() + 3 * y.var(), again.optimizer)
    for one, other in zip(made.generator.parameters(), again.generator.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert made.runtime.drain() == pytest.approx({"mean": x.mean().item(), "spread": x.var().item()}, abs=1e-6)


def test_passes_may_be_made_by_anything_and_are_detached() -> None:
    made, sizes = fakes(), []

    def make(size: int) -> Tensor:
        sizes.append(size)
        return torch.full((size, *INPUTS.shape), float(len(sizes)))

    x = made.in_passes(20, make)
    assert sizes == [8, 8, 4]
    assert x[:, 0, 0, 0].tolist() == [1.0] * 8 + [2.0] * 8 + [3.0] * 4


def test_the_rates_of_adam_are_the_settings() -> None:
    assert fakes(betas=(0.5, 0.9)).optimizer.param_groups[0]["betas"] == (0.5, 0.9)
