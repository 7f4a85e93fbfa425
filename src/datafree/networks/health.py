"""What a network is like, found out in seconds without any data: its norms, its logits, its gradients, its speed."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from datafree.core.modes import evaluating, frozen
from datafree.core.spec import InputSpec
from datafree.networks.cost import saved_bytes
from datafree.networks.outputs import flattened, gradient_arrives, kind_of_outputs
from datafree.networks.taps import Norm, calls

PROBES = 8  # images a probe, of small inputs
PROBED = 2**22  # values of all images of a probe, so that one of large inputs takes seconds


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
    outputs: str  # their kind, as `kind_of_outputs` names it
    logit_scale: float  # deviation over the classes of an answer to noise, mean over images
    probes: int  # images of noise
    noise_classes: int  # classes that the network calls them
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
    noise = torch.randn(max(2, min(PROBES, PROBED // inputs.values)), *inputs.shape, generator=random).to(device)
    flat = torch.tensor([0.0, 0.5, 1.0], device=device).view(3, 1, 1, 1).expand(3, *inputs.shape)
    with evaluating(network), frozen(network):
        made = [call for call in calls(network, noise[:2]) if isinstance(call.layer, nn.Conv2d | nn.Linear)]
        with torch.no_grad():
            answers, constants = (flattened(network(x)) for x in (noise, inputs.to_network(flat)))
        gradient, seconds = gradient_arrives(network, inputs), _seconds(network, noise)
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
        outputs=kind_of_outputs(network, inputs),
        logit_scale=scale,
        probes=len(noise),
        noise_classes=len(answers.argmax(1).unique()),
        constant_spread=constants.std(0).mean().item() / max(scale, 1e-12),
        gradient=gradient,
        bytes_per_image=size,
        seconds_per_image=seconds,
    )


def _sane(norm: Norm) -> bool:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return bool(norm.running_mean.isfinite().all() and norm.running_var.isfinite().all() and (norm.running_var >= 0).all())


def _untouched(norm: Norm) -> bool:
    """Whether its statistics are as a fresh layer has them, so that no data ever passed it in training."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return bool((norm.running_mean == 0).all() and (norm.running_var == 1).all())


def _seconds(network: nn.Module, noise: Tensor) -> float:
    """Seconds an image of a forward and a backward pass to the input, the second of two."""
    seconds = 0.0
    for _ in range(2):
        x = noise.clone().contiguous(memory_format=torch.channels_last).requires_grad_()
        began = time.perf_counter()
        answer = flattened(network(x))
        if answer.requires_grad:
            (slope,) = torch.autograd.grad(answer.square().sum(), x, allow_unused=True)
            if slope is not None:
                slope.abs().amax().item()  # which waits for a GPU
        seconds = (time.perf_counter() - began) / len(x)
    return seconds
