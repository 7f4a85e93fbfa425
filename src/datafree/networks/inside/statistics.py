"""Means and variances of a network's channels, with a backward pass that reads its input once."""

import math
from typing import Any, cast

import torch
from torch import Tensor

from datafree.core.distributed import is_distributed, mean_over_ranks


class _Moments(torch.autograd.Function):
    """Mean and biased variance of each channel, by torch's batch-norm kernel: on CPUs ten times faster than var_mean.

    By hand, since torch's own gradient of the two reads x several times: (g_mean + 2 g_variance (x - mean)) / n takes one pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        _, mean, inverse = torch.native_batch_norm(x, None, None, None, None, True, 0.0, _EPSILON)
        ctx.save_for_backward(x, mean)
        return mean, (inverse.reciprocal().square() - _EPSILON).clamp_min(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        count, shape = x.numel() / x.shape[1], [1, -1, *[1] * (x.dim() - 2)]
        slope = 2 * gradients[1] / count
        return torch.addcmul((gradients[0] / count - slope * mean).view(shape), x, slope.view(shape))


_EPSILON = 1e-5  # keeps the inverse deviation of a constant channel finite


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance [channels] of x [B, channels, ...] over batch and positions, fp32.

    With several processes they are those of all batches, of equal size, together.
    """
    mean, variance = cast(tuple[Tensor, Tensor], _Moments.apply(x))
    if not is_distributed():
        return mean, variance
    global_mean = mean_over_ranks(mean)
    return global_mean, mean_over_ranks(variance + (mean - global_mean.detach()).square())


class _ChannelMeans(torch.autograd.Function):
    """Mean over positions; its gradient has one value a channel and is expanded as a view, without memory for each position."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape, ctx.kind = x.shape, x.dtype
        return x.mean(tuple(range(2, x.dim())), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        count = math.prod(ctx.shape[2:])
        slope = (gradients[0] / count).to(ctx.kind)
        return cast(Tensor, slope.view(*slope.shape, *[1] * (len(ctx.shape) - 2)).expand(ctx.shape))


def channel_means(x: Tensor) -> Tensor:
    """Mean [B, channels] over the positions of x [B, channels, ...], fp32."""
    return cast(Tensor, _ChannelMeans.apply(x)) if x.dim() > 2 else x.float()
