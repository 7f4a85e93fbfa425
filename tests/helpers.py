"""What the tests share: a tiny teacher on 8x8 inputs, and where the real data lies."""

import socket
from pathlib import Path

import torch

from datafree import Card, InputSpec, Network, build

SHARED = Path(__file__).parents[2] / "shared" / "data"
INPUTS = InputSpec(shape=(1, 8, 8), mean=(0.3,), std=(0.4,))
TINY = "small-cnn-quarter"
WORLD = 2  # processes of the tests of several


def network(seed: int, architecture: str = TINY, inputs: InputSpec = INPUTS, classes: int = 10) -> Network:
    """A fresh network of that seed with a card, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build(architecture, inputs, classes).eval()
    return Network(module, Card(architecture=architecture, classes=classes, inputs=inputs))


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def noise_images() -> torch.Tensor:
    """Twelve images of noise [12, 1, 8, 8], always the same."""
    return torch.randn(12, *INPUTS.shape, generator=torch.Generator().manual_seed(3))
