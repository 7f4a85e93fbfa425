"""An adversary that seeks disagreement: what a student could get wrong at most, near the probes."""

import torch
from torch import Tensor, nn

from datafree.core.modes import frozen
from datafree.networks.outputs import logits_of

REACH = 0.1  # largest change of a value, network units
STEPS = 5


def pushed(teacher: nn.Module, student: nn.Module, x: Tensor) -> Tensor:
    """Images [N, C, H, W] near `x`, moved by signs of gradients to where the two networks' probabilities differ most.

    The divergence is KL(teacher || student), summed over images; both networks are in eval mode (projected gradient ascent,
    arXiv 1706.06083, on the disagreement of two networks).
    """
    near = x.clone()
    with frozen(teacher), frozen(student), torch.enable_grad():
        for _ in range(STEPS):
            leaf = near.detach().requires_grad_()
            ours, theirs = (_log_probabilities(network, leaf) for network in (teacher, student))
            apart = (ours.exp() * (ours - theirs)).sum()
            (slope,) = torch.autograd.grad(apart, leaf)
            near = (leaf + 2 * REACH / STEPS * slope.sign()).detach()
            near = x + (near - x).clamp(-REACH, REACH)
    return near


def _log_probabilities(network: nn.Module, x: Tensor) -> Tensor:
    logits = logits_of(network(x))
    assert isinstance(logits, Tensor)
    return logits.float().log_softmax(1)
