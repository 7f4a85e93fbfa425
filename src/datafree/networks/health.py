"""What a network is like, found out in seconds without any data: its norms, its logits, its gradients, its speed."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from datafree.core.modes import evaluating, frozen
from datafree.core.spec import InputSpec
from datafree.networks.cost import saved_bytes
from datafree.networks.outputs import logits_of
from datafree.networks.taps import Norm, calls

PROBES = 8  # images a probe


@dataclass(frozen=True)
class Health:
    """What was found of one network; each number is of probes in network units, at the network's own input shape."""

    layers: int  # convolutions and linear layers that ran
    norms: int  # batch norms that keep running statistics
    norms_sane: bool  # whether those statistics are of some data: finite, positive, and not as they were first set
    attention: bool
    ends_linear: bool  # whether the last layer is linear, so that it has penultimate features
    dropout: bool
    half: bool  # whether some weights are in half precision
    outputs: str  # logits, probabilities, log-probabilities, or constant
    logit_scale: float  # deviation over the classes of an answer to noise, mean over images
    noise_classes: int  # classes that the network calls noise images
    constant_spread: float  # deviation of the answers over black, grey and white, as a share of the logit scale
    gradient: bool  # whether the input gets a gradient that is not zero
    bytes_per_image: int  # kept for a backward pass through the network
    seconds_per_image: float  # of a forward and a backward pass to the input, here


def examine(network: nn.Module, inputs: InputSpec) -> Health:
    """Probe `network` with noise and constants; its modes, gradients and random numbers stay as they were.

    Raises whatever the network raises for inputs of that shape.
    """
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(PROBES, *inputs.shape, generator=random).to(device)
    flat = torch.tensor([0.0, 0.5, 1.0], device=device).view(3, 1, 1, 1).expand(3, *inputs.shape)
    with evaluating(network), frozen(network):
        made = [call for call in calls(network, noise[:2]) if isinstance(call.layer, nn.Conv2d | nn.Linear)]
        with torch.no_grad():
            answers, constants = (_flat(network(x)) for x in (noise, inputs.to_network(flat)))
        gradient, seconds = _gradient(network, noise)
        size = saved_bytes(network, noise[:2])
    norms = [layer for layer in network.modules() if isinstance(layer, Norm) and layer.track_running_stats]
    scale = answers.std(1).mean().item()
    return Health(
        layers=len(made),
        norms=len(norms),
        norms_sane=bool(norms) and all(_sane(norm) for norm in norms) and not all(_untouched(norm) for norm in norms),
        attention=any("attention" in type(layer).__name__.lower() for layer in network.modules()),
        ends_linear=bool(made) and isinstance(made[-1].layer, nn.Linear),
        dropout=any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in network.modules()),
        half=any(weight.dtype in (torch.float16, torch.bfloat16) for weight in network.parameters()),
        outputs=_kind(answers),
        logit_scale=scale,
        noise_classes=len(answers.argmax(1).unique()),
        constant_spread=constants.std(0).mean().item() / max(scale, 1e-12),
        gradient=gradient,
        bytes_per_image=size,
        seconds_per_image=seconds,
    )


def _flat(answer: object) -> Tensor:
    """Logits [N, classes]; those of pixels one row each."""
    logits = logits_of(answer)
    assert isinstance(logits, Tensor)
    return logits.float().movedim(1, -1).flatten(0, -2)


def _kind(answers: Tensor) -> str:
    """By their values: softmax or log-softmax outputs carry the same classes as logits, on another scale."""
    if answers.std(0).amax() <= 1e-6 * answers.abs().amax().clamp_min(1e-12):
        return "constant"
    if bool((answers >= 0).all()) and torch.allclose(
        answers.sum(1), torch.ones(len(answers), device=answers.device), atol=1e-3
    ):
        return "probabilities"
    flat = torch.zeros(len(answers), device=answers.device)
    if bool((answers <= 0).all()) and torch.allclose(answers.logsumexp(1), flat, atol=1e-3):
        return "log-probabilities"
    return "logits"


def _sane(norm: Norm) -> bool:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return bool(norm.running_mean.isfinite().all() and norm.running_var.isfinite().all() and (norm.running_var >= 0).all())


def _untouched(norm: Norm) -> bool:
    """Whether its statistics are as a fresh layer has them, so that no data ever passed it in training."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return bool((norm.running_mean == 0).all() and (norm.running_var == 1).all())


def _gradient(network: nn.Module, noise: Tensor) -> tuple[bool, float]:
    """Whether a gradient reaches the input, and seconds an image of a forward and a backward pass, the second of two."""
    alive, seconds = False, 0.0
    for _ in range(2):
        x = noise.clone().contiguous(memory_format=torch.channels_last).requires_grad_()
        began = time.perf_counter()
        answer = _flat(network(x))
        if not answer.requires_grad:
            return False, (time.perf_counter() - began) / len(x)
        (slope,) = torch.autograd.grad(answer.square().sum(), x, allow_unused=True)
        alive = slope is not None and bool(slope.abs().amax() > 0)  # `.item` below waits for a GPU, as this does
        seconds = (time.perf_counter() - began) / len(x)
    return alive, seconds
