"""What inversions start from."""

import pytest
import torch

from datafree.core.runtime import Runtime
from datafree.methods.common.textures import NOISES, clouds


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 20, 33), (3, 4, 4)])
def test_noises_are_seeded_pixels_of_any_shape(name: str, shape: tuple[int, int, int]) -> None:
    one, two, other = (NOISES[name](5, shape, Runtime("cpu", seed=seed)) for seed in (0, 0, 1))
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
