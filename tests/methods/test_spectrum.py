"""Fourier coefficients in place of pixels: what they stand for, and which changes a step makes."""

import torch

from datafree.methods.common.spectrum import spectral


def test_coefficients_of_zero_stand_for_the_images_they_began_with() -> None:
    start = torch.rand(2, 3, 8, 6)
    leaf, render = spectral(start, torch.zeros(1), torch.ones(1))
    assert torch.equal(render(), start)
    with torch.no_grad():
        leaf += 100 * torch.randn_like(leaf)
    assert 0 <= render().min() < render().max() <= 1
    assert render().shape == start.shape


def test_a_step_changes_coarse_shapes_more_than_fine_grain() -> None:
    """The same gradient, white noise, moves pixels of neighbours alike and pixels as a basis each on its own."""
    torch.manual_seed(0)
    start, gradient = torch.zeros(64, 1, 16, 16), torch.randn(64, 1, 16, 16)
    leaf, render = spectral(start, torch.tensor(-100.0), torch.tensor(100.0))
    optimizer = torch.optim.Adam([leaf], 0.1)
    (render() * gradient).sum().backward()
    optimizer.step()
    moved = render().detach()

    def alike(x: torch.Tensor) -> float:
        return ((x[..., 1:] * x[..., :-1]).mean() / x.square().mean()).item()

    assert alike(moved) > 0.5
    assert abs(alike(gradient.sign())) < 0.1
