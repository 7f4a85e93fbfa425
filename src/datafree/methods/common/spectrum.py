"""Images as Fourier coefficients: steps change coarse shapes first (Olah et al., Feature Visualization, Distill 2017).

A step of Adam changes every number by about as much. On pixels that is fine grain, which a network reacts to and no photograph
has; on coefficients that are multiplied by 1 / frequency it is a change with the spectrum of photographs.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def spectral(start: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """Coefficients to optimise, and a function that returns the images that they stand for.

    Args:
        start: images [B, C, H, W] that coefficients of 0 stand for.
        low: least value of each pixel, of a shape that broadcasts to the images'.
        high: largest value of each pixel.

    Returns:
        The coefficients, a leaf [B, C, H, W // 2 + 1, 2] of zeros, and the function, which gives images [B, C, H, W].
    """
    height, width = start.shape[2:]
    rows = torch.fft.fftfreq(height, device=start.device)[:, None]
    columns = torch.fft.rfftfreq(width, device=start.device)[None]
    scale = 1 / (rows.square() + columns.square()).sqrt().clamp_min(1 / max(height, width))  # the mean as the lowest waves
    scale = scale / scale.square().mean().sqrt()
    leaf = torch.zeros(*start.shape[:2], *scale.shape, 2, device=start.device).requires_grad_()

    def render() -> Tensor:
        changes = torch.fft.irfft2(torch.view_as_complex(leaf) * scale, s=(height, width), norm="ortho")
        return torch.minimum(torch.maximum(start + changes, low), high)

    return leaf, render
