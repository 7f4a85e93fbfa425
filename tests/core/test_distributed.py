"""Processes that work together, two of them, by gloo."""

from pathlib import Path
from typing import Any

import torch
from helpers import WORLD, both, network, noise_images
from torch import Tensor

from datafree.core.distributed import is_distributed, launch_rank, mean_over_ranks, process_group
from datafree.methods.common.losses import statistics_distance
from datafree.networks.inside.statistics import moments
from datafree.networks.inside.taps import norm_statistics


def objective(x: Tensor) -> Tensor:
    """A mean over images and a statistic of the whole batch."""
    module = network(seed=1).module.requires_grad_(False)
    with norm_statistics(module) as seen:
        answer = module(x)
    return answer.square().mean() + statistics_distance(seen.values())


def one_part(_: Path) -> dict[str, Any]:
    part = noise_images().chunk(WORLD)[launch_rank()[0]]
    with process_group(torch.device("cpu")):
        x = part.clone().requires_grad_()
        loss = objective(x)
        loss.backward()
        return {"gradient": x.grad, "moments": moments(part), "loss": mean_over_ranks(loss.detach())}


def test_statistics_are_those_of_the_global_batch_and_so_are_their_gradients(tmp_path: Path) -> None:
    found = both(one_part, tmp_path)
    whole = noise_images().requires_grad_()
    loss = objective(whole)
    loss.backward()
    assert torch.allclose(found[0]["loss"], loss.detach(), rtol=1e-5)
    for part in found:
        for seen, true in zip(part["moments"], moments(noise_images()), strict=True):
            assert torch.allclose(seen, true, atol=1e-6)
    # A process takes the gradient of its own share's mean: twice that of the whole mean, until the processes' are averaged.
    own = torch.cat([part["gradient"] for part in found])
    assert torch.allclose(own, WORLD * whole.grad, atol=1e-6)
    assert whole.grad.abs().max() > 1e-3


def test_alone_a_mean_over_processes_is_the_thing_itself() -> None:
    x = torch.randn(3)
    assert not is_distributed()
    assert mean_over_ranks(x) is x
