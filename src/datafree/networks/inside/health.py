"""What a network is like, found out in seconds without any data: its norms, its logits, its gradients, its speed."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from datafree.core.modes import evaluating, frozen
from datafree.core.spec import InputSpec
from datafree.networks.building.work import Work
from datafree.networks.inside.cost import PROBED, saved_bytes
from datafree.networks.inside.taps import Norm
from datafree.networks.outputs import flattened, gradient_arrives, kind_of_outputs

PROBES = 8  # images a probe, of small inputs
HEAVY_WORK, HEAVY_BYTES = 2 * 10**9, 2**27  # multiply-adds, and bytes for a backward pass, beyond which one image must do


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


def examine(network: nn.Module, inputs: InputSpec, work: Work | None = None) -> Health:
    """Probe `network` with noise and constants; its modes, gradients and random numbers stay as they were.

    With `work`, that of a pass, a heavy network is probed by one image at a time. Raises whatever the network raises for inputs
    of that shape.
    """
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    random = torch.Generator().manual_seed(0)
    heavy = work is not None and (work.multiply_adds > HEAVY_WORK or work.backward > HEAVY_BYTES)
    probes = 1 if heavy else max(2, min(PROBES, PROBED // inputs.values))
    noise = torch.randn(probes, *inputs.shape, generator=random).to(device)
    flat = torch.tensor([0.0, 0.5, 1.0], device=device).view(3, 1, 1, 1).expand(3, *inputs.shape)
    with evaluating(network), frozen(network):
        with torch.no_grad():
            with _layers_called(network) as made:
                answers = flattened(network(noise))
            parts = inputs.to_network(flat).split(1 if heavy else 3)
            constants = torch.cat([flattened(network(x)) for x in parts])
        gradient = gradient_arrives(network, inputs)
        seconds = _seconds(network, noise, 1 if heavy else 2)
        size = work.backward if work and heavy else saved_bytes(network, noise[:2])
    norms = [layer for layer in network.modules() if isinstance(layer, Norm) and layer.track_running_stats]
    scale = answers.std(1).mean().item()
    return Health(
        layers=len(made),
        norms=len(norms),
        norms_sane=bool(norms) and all(_sane(norm) for norm in norms) and not all(_untouched(norm) for norm in norms),
        attention=any("attention" in type(layer).__name__.lower() for layer in network.modules()),
        ends_linear=bool(made) and isinstance(made[-1], nn.Linear),
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


@contextmanager
def _layers_called(network: nn.Module) -> Iterator[list[nn.Module]]:
    """The convolutions and linear layers that run inside, in their order."""
    made: list[nn.Module] = []
    with ExitStack() as hooks:
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and not any(layer.children()):
                hooks.enter_context(layer.register_forward_hook(lambda layer, inputs, output: made.append(layer)))
        yield made


def _sane(norm: Norm) -> bool:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return bool(norm.running_mean.isfinite().all() and norm.running_var.isfinite().all() and (norm.running_var >= 0).all())


def _untouched(norm: Norm) -> bool:
    """Whether its statistics are as a fresh layer has them, so that no data ever passed it in training."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return bool((norm.running_mean == 0).all() and (norm.running_var == 1).all())


def _seconds(network: nn.Module, noise: Tensor, passes: int) -> float:
    """Seconds an image of a forward and a backward pass to the input, the last of so many; each on images that are new."""
    seconds = 0.0
    for turn in range(passes):
        x = noise.roll(turn + 1, -1).contiguous(memory_format=torch.channels_last).requires_grad_()
        began = time.perf_counter()
        answer = flattened(network(x))
        if answer.requires_grad:
            (slope,) = torch.autograd.grad(answer.square().sum(), x, allow_unused=True)
            if slope is not None:
                slope.abs().amax().item()  # which waits for a GPU
        seconds = (time.perf_counter() - began) / len(x)
    return seconds
