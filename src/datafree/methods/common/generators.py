"""Generators, by name: from noise z [B, latent] to images [B, C, H, W], network units or [0, 1] pixels."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.core.modes import fastest_layout
from datafree.core.runtime import Runtime
from datafree.core.settings import Settings, Width
from datafree.core.spec import Shape


class Doubling(nn.Conv2d):
    """Nearest-neighbour upsampling by 2 and a 3x3 convolution with padding 1, computed as one operation.

    The two equal one transposed 4x4 convolution with stride 2 and padding 1, whose kernel is the flipped 3x3 kernel convolved
    with a 2x2 box: outputs and gradients are the same up to rounding, from a quarter of the positions. The weight is the 3x3
    kernel, with the default initialisation of `nn.Conv2d`.
    """

    def __init__(self, inside: int, outside: int):
        super().__init__(inside, outside, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kernel = F.pad(self.weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
        rows = kernel[:, :, 1:] + kernel[:, :, :-1]
        return F.conv_transpose2d(x, rows[..., 1:] + rows[..., :-1], self.bias, stride=2, padding=1)


class UpsampleGenerator(nn.Module):
    """Generator A of DFAD: it doubles the sides twice, from a quarter of the size.

    The output passes a batch norm without weights, so it lives in the teacher's normalised space whatever the teacher's
    mean and std are; with `affine` that norm has weights and no tanh before it, so mean and scale are learned, as in ZSKT
    (arXiv 1905.09768); with `pixels` it is a sigmoid instead, so [0, 1] pixels, as in CMI (arXiv 2105.08584). `width` is the
    channels of the first convolutions (128 in the papers' codes). Raises `ValueError` for sides that are not multiples of 4.
    """

    def __init__(self, shape: Shape, latent: int, width: int = 128, pixels: bool = False, affine: bool = False):
        super().__init__()
        channels, rows, columns = shape
        if rows % 4 or columns % 4:
            raise ValueError(
                f"The upsample generator doubles twice, "
                f"so {rows}x{columns} must be multiples of 4; pass --inputs with multiples of 4."
            )
        plain = (nn.BatchNorm2d(channels),) if affine else (nn.Tanh(), nn.BatchNorm2d(channels, affine=False))
        self.base = (width, rows // 4, columns // 4)
        self.project = nn.Linear(latent, width * self.base[1] * self.base[2])
        self.layers = nn.Sequential(
            nn.BatchNorm2d(width),
            Doubling(width, width),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2, inplace=True),
            Doubling(width, width // 2),
            nn.BatchNorm2d(width // 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width // 2, channels, 3, padding=1),
            *((nn.Sigmoid(),) if pixels else plain),
        )

    def forward(self, z: Tensor) -> Tensor:
        return _through(self.layers, self.project(z).view(-1, *self.base))


class DCGANGenerator(nn.Module):
    """Generator B of DFAD (after DCGAN, arXiv 1511.06434): four transposed convolutions from a sixteenth of the size.

    The output passes a tanh, which fits inputs scaled with mean and std 0.5; with `pixels` it passes a sigmoid and is in
    [0, 1]. `width` is the number of channels of the last transposed convolution (64 in the paper's code). Raises `ValueError`
    for sides that are not multiples of 16.
    """

    def __init__(self, shape: Shape, latent: int, width: int = 64, pixels: bool = False):
        super().__init__()
        channels, rows, columns = shape
        if rows % 16 or columns % 16:
            raise ValueError(
                f"The dcgan generator doubles four times, so {rows}x{columns} must be multiples of 16; "
                "pass --inputs with multiples of 16, or --method.latent.generator upsample."
            )
        widths = [8 * width, 4 * width, 2 * width, width, width]
        self.base = (widths[0], rows // 16, columns // 16)
        self.project = nn.Linear(latent, widths[0] * self.base[1] * self.base[2])
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0])]
        for a, b in pairwise(widths):
            layers += [
                nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False),
                nn.BatchNorm2d(b),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1), nn.Sigmoid() if pixels else nn.Tanh())
        init_dcgan(self)

    def forward(self, z: Tensor) -> Tensor:
        return _through(self.layers, self.project(z).view(-1, *self.base))


def init_dcgan(network: nn.Module, generator: torch.Generator | None = None) -> nn.Module:
    """`network` with the initial weights of DCGAN, in place: N(0, 0.02), for batch norms N(1, 0.02); biases are 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d) and layer.weight is not None:
            mean = 1.0 if isinstance(layer, nn.BatchNorm2d) else 0.0
            nn.init.normal_(layer.weight, mean, 0.02, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


def plain_start(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """`network` with first weights as torch's own layers draw them, in place, but from `generator`."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            for values in (layer.weight, layer.bias):
                if values is not None:
                    nn.init.uniform_(values, -bound, bound, generator=generator)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.reset_parameters()  # ones and zeros
    return network


def _through(layers: nn.Sequential, x: Tensor) -> Tensor:
    # Later feature maps take the layout of the first one; channels-last is about twice as fast.
    return layers(x.contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]


GENERATORS: dict[str, Callable[[Shape, int, int, bool], nn.Module]] = {
    "upsample": UpsampleGenerator,
    "upsample-affine": partial(UpsampleGenerator, affine=True),
    "dcgan": DCGANGenerator,
}


class Latent(Settings):
    """The noise z, and the generator that turns it into images."""

    size: Width = 256
    """Size of the noise z, numbers."""
    generator: Literal["upsample", "upsample-affine", "dcgan"] = "upsample"
    """upsample: doubles twice, for sides in multiples of 4; upsample-affine: the same, and learns the mean and scale of its
    images, which are not bounded; dcgan: doubles four times, for sides in multiples of 16."""
    width: Width = 128
    """Channels of the generator's widest (upsample) or last (dcgan) convolutions."""

    def build(self, shape: Shape, runtime: Runtime, pixels: bool = False) -> nn.Module:
        """A generator of images (C, H, W) in network units, or with `pixels` in [0, 1], for training, initialised by torch.

        Raises `ValueError` for sides that it cannot make.
        """
        network = GENERATORS[self.generator](shape, self.size, self.width, pixels)
        return fastest_layout(network.to(runtime.device)).train()

    def fresh(self, shape: Shape, runtime: Runtime) -> nn.Module:
        """A generator of [0, 1] pixels for one batch, initialised as DCGAN from the run's random numbers.

        Raises `ValueError` for sides that it cannot make.
        """
        network = GENERATORS[self.generator](shape, self.size, self.width, True).to(runtime.device)
        return fastest_layout(init_dcgan(network, runtime.random)).train()
