"""Pure losses. The class axis is dim 1, so images [B, K] and segmentations [B, K, H, W] share each formula."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from datafree.taps import NormStatistics


def logit_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean absolute difference of raw logits over every element (DFAD, arXiv 1912.11006, and its code), in fp32."""
    return (student.float() - teacher.float()).abs().mean()


def kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Knowledge distillation (Hinton et al., arXiv 1503.02531): T^2 KL(teacher / T || student / T).

    Both are raw logits with the classes in dim 1; mean over batch and positions, in fp32.
    """
    log_q = F.log_softmax(student.float() / temperature, dim=1)
    log_p = F.log_softmax(teacher.float() / temperature, dim=1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1).mean() * temperature**2


def statistics_distance(statistics: Iterable[NormStatistics]) -> Tensor:
    """Sum over layers of |mean - running mean|_2 + |variance - running variance|_2.

    The feature distribution regularization of DeepInversion (arXiv 1912.08795, section 3.2).
    """
    pairs = [(s.mean - s.running_mean, s.variance - s.running_variance) for s in statistics]
    return torch.stack([torch.linalg.vector_norm(part) for pair in pairs for part in pair]).sum()


def soft_cross_entropy(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of softened logits against soft targets, one value an example [B], in fp32.

    `targets` are probabilities with the classes in dim 1 (what ZSKD, arXiv 1905.08114, inverts by).
    """
    log_q = F.log_softmax(logits.float() / temperature, dim=1)
    return -(targets * log_q).sum(dim=1)
