"""Classifiers by attention. By hand, since timm's need an extra and options for small images."""

import torch
from torch import Tensor, nn

from datafree.core.spec import Shape

PATCH = 4  # pixels a side


class ViT(nn.Module):
    """A vision transformer (arXiv 2010.11929) for small images: patches of 4x4, pre-norm blocks, a linear layer on their mean.

    `width` is the size of a token, `depth` the number of blocks. Raises `ValueError` for sides that are no multiples of 4.
    """

    def __init__(self, shape: Shape, classes: int, width: int, depth: int, heads: int = 4):
        super().__init__()
        channels, height, width_ = shape
        if height % PATCH or width_ % PATCH:
            raise ValueError(
                f"The sides of a ViT's inputs are multiples of {PATCH}, not {height}x{width_}; pass other --inputs."
            )
        self.patches = nn.Conv2d(channels, width, PATCH, PATCH)
        self.positions = nn.Parameter(torch.zeros(1, height * width_ // PATCH**2, width))
        block = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.blocks(tokens).mean(1))  # type: ignore[no-any-return]
