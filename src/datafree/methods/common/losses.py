"""Loss functions. The class axis is dim 1, so each serves logits [B, classes] and [B, classes, H, W]."""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from datafree.core.distributed import mean_over_ranks
from datafree.networks.inside.taps import NormStatistics


def logit_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean absolute difference of raw logits over all elements (DFAD, arXiv 1912.11006, and its code), in fp32."""
    return (student.float() - teacher.float()).abs().mean()


def statistics_distance(statistics: Iterable[NormStatistics], scale_free: bool = False) -> Tensor:
    """Sum over layers of |mean - running mean|_2 + |variance - running variance|_2, a scalar.

    The feature distribution regularization of DeepInversion (arXiv 1912.08795, section 3.2). `scale_free` divides the first
    by |running deviation|_2 and the second by |running variance|_2, so that a layer's scale does not matter.
    """
    norm = torch.linalg.vector_norm
    parts: list[Tensor] = []
    for s in statistics:
        mean, variance = norm(s.mean - s.running_mean), norm(s.variance - s.running_variance)
        if scale_free:
            mean, variance = mean / s.running_variance.sum().sqrt(), variance / norm(s.running_variance)
        parts += [mean, variance]
    return torch.stack(parts).sum()


def total_variation(x: Tensor) -> Tensor:
    """Sum of the L2 norms of the differences between neighbouring pixels of x [B, C, H, W] in four directions, a scalar.

    The directions are right, below and both diagonals. The image prior of DeepInversion (arXiv 1912.08795), as in its code.
    """
    right, below = x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]
    falling, rising = x[..., 1:, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, 1:]
    return torch.stack([torch.linalg.vector_norm(part) for part in (right, below, falling, rising)]).sum()


def jensen_shannon(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Jensen-Shannon divergence of two logits divided by `temperature`, nats, at most log 2; mean over batch and positions.

    Adaptive DeepInversion (arXiv 1912.08795, section 3.3) prefers images for which it is large.
    """
    log_p, log_q = (F.log_softmax(logits.float() / temperature, dim=1) for logits in (one, other))
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    halves = (F.kl_div(log_m, part, reduction="none", log_target=True).sum(dim=1).mean() for part in (log_p, log_q))
    return sum(halves, torch.zeros((), device=one.device)) / 2


def agreed_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of raw logits where both predict the same class, else 0, nats; mean over batch and positions.

    Its negative is the decision adversary of CMI (arXiv 2105.08584).
    """
    log_q, log_p = F.log_softmax(student.float(), dim=1), F.log_softmax(teacher.float(), dim=1)
    agreed = student.argmax(dim=1) == teacher.argmax(dim=1)
    return (F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1) * agreed).mean()


def soft_cross_entropy(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of logits divided by `temperature` with soft targets, nats, one value an image [B], in fp32.

    `targets` [B, classes] are probabilities. The loss with which ZSKD (arXiv 1905.08114) inverts.
    """
    log_q = F.log_softmax(logits.float() / temperature, dim=1)
    return -(targets * log_q).sum(dim=1)


def own_cross_entropy(logits: Tensor) -> Tensor:
    """Cross-entropy of logits against their own largest class, in fp32; mean over batch and positions.

    The one-hot loss of DAFL (arXiv 1904.01186): it is small where the teacher is sure.
    """
    return F.cross_entropy(logits.float(), logits.argmax(dim=1))


def negative_entropy(logits: Tensor) -> Tensor:
    """sum p log p in nats, where p is the mean softmax over batch and positions; of the batches of all ranks together.

    At least -log(classes), where classes come equally often. The information entropy loss of DAFL (arXiv 1904.01186), whose
    code takes the logarithm to base 10: its weight there divided by log(10) is the weight here.
    """
    p = logits.float().softmax(dim=1).transpose(0, 1).flatten(1).mean(dim=1)
    p = mean_over_ranks(p)
    return (p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum()  # a class that never comes has p = 0


def attention_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the attention maps of two feature maps [B, channels, H, W], in fp32.

    An image's attention map is the mean over channels of the squared features, flattened and divided by its L2 norm (attention
    transfer, arXiv 1612.03928, as ZSKT, arXiv 1905.09768, uses it). The numbers of channels may differ.
    """
    one, other = (F.normalize(maps.float().square().mean(dim=1).flatten(1), dim=1) for maps in (student, teacher))
    return F.mse_loss(one, other)
