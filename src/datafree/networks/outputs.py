"""The logits that a network returns, for an image or for each pixel; the class axis is dim 1."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from datafree.core.modes import evaluating
from datafree.core.settings import first_line
from datafree.core.shortages import is_out_of_memory
from datafree.core.spec import InputSpec

TASKS = {2: "classification", 4: "segmentation"}  # by the number of dims of the logits: [B, classes], [B, classes, H, W]
_LOGITS = ("out", "logits")  # key of the logits in an output that is a mapping: torchvision's, transformers'


def logits_of(output: object) -> object:
    """The logits in an output that is a mapping (`{"out": ...}`), without auxiliary ones; any other output unchanged."""
    if isinstance(output, Mapping):
        return next((output[name] for name in _LOGITS if name in output), output)
    return output


@contextmanager
def logits_only(network: nn.Module) -> Iterator[None]:
    """Inside, `network` returns only the logits of an output that is a mapping."""
    with network.register_forward_hook(lambda network, inputs, output: logits_of(output)):
        yield


def probe(name: str, network: nn.Module, inputs: InputSpec) -> Tensor:
    """Logits of `network` for two inputs of noise, [2, classes] or [2, classes, H, W]; its modes are restored.

    Raises `ValueError`, with `name`, if the network fails on inputs of this shape or does not return logits.
    """
    try:
        with torch.no_grad(), evaluating(network), logits_only(network):
            logits = network(noise_for(network, inputs))
    except (RuntimeError, ValueError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        reason = first_line(error)
        raise ValueError(f"The {name} refuses inputs of {inputs}: {reason}. Pass the shape that it was made for.") from error
    if not isinstance(logits, Tensor) or logits.dim() not in TASKS or len(logits) != 2:
        seen = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"The {name} returns {seen} for two inputs, not [2, classes] or [2, classes, height, width]; "
            "give a network that returns logits."
        )
    return logits


def noise_for(network: nn.Module, inputs: InputSpec) -> Tensor:
    """Two inputs of noise [2, C, H, W], the same in each call, on the device of the network's weights."""
    weight = next(network.parameters(), torch.empty(0))
    return torch.randn(2, *inputs.shape, generator=torch.Generator().manual_seed(0)).to(weight.device)
