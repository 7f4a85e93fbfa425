"""Random pictures."""

import pytest
import torch

from datafree.runtime import Runtime
from datafree.textures import NOISES, clouds, dead_leaves

TEXTURES = {**NOISES, "dead leaves": dead_leaves}


@pytest.mark.parametrize("name", TEXTURES)
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 20, 33), (3, 4, 4)])
def test_noises_are_seeded_pixels_of_any_shape(name: str, shape: tuple[int, int, int]) -> None:
    one, two, other = (TEXTURES[name](5, shape, Runtime("cpu", seed=seed)) for seed in (0, 0, 1))
    assert one.shape == (5, *shape)
    assert 0 <= one.min() < one.max() <= 1
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_clouds_are_smooth_and_of_many_densities() -> None:
    x = clouds(300, (1, 32, 32), Runtime("cpu"))
    black = (x == 0).float().mean((1, 2, 3))
    assert black.quantile(0.1) < 0.5
    assert black.quantile(0.9) > 0.85
    neighbours = (x[..., 1:] - x[..., :-1]).abs().mean()
    strangers = (x[..., torch.randperm(32)] - x).abs().mean()
    assert neighbours < 0.8 * strangers  # uniform noise: equal


def test_dead_leaves_are_flat_but_for_edges_and_differ_in_contrast_and_colour() -> None:
    x = dead_leaves(200, (3, 32, 32), Runtime("cpu"))
    steps = (x[..., 1:] - x[..., :-1]).abs()
    assert steps.median() < 0.25 * steps.mean()  # a few edges make most of the change
    contrast = x.std((2, 3)).mean(1)
    assert contrast.quantile(0.9) > 4 * contrast.quantile(0.1)
    colourfulness = x.std(1).mean((1, 2))
    assert colourfulness.min() < 0.02 < 0.1 < colourfulness.max()
