"""What a network answers: logits of an image or of every pixel, the class axis in dim 1."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from datafree.core.modes import evaluating
from datafree.core.settings import first_line
from datafree.core.spec import InputSpec

TASKS = {2: "classification", 4: "segmentation"}  # by the answer's dims: [B, classes], [B, classes, H, W]
_LOGITS = ("out", "logits")  # where answers that are mappings keep them: torchvision's, transformers'


def logits_of(answer: object) -> object:
    """The logits in an answer that is a mapping (`{"out": ...}`, auxiliary ones left out); any other answer as it is."""
    if isinstance(answer, Mapping):
        return next((answer[name] for name in _LOGITS if name in answer), answer)
    return answer


@contextmanager
def tensor_answers(network: nn.Module) -> Iterator[None]:
    """Inside, a network that answers with a mapping answers with the logits in it."""
    with network.register_forward_hook(lambda network, inputs, answer: logits_of(answer)):
        yield


def probe(name: str, network: nn.Module, inputs: InputSpec) -> Tensor:
    """What `network` answers to two inputs of noise, [2, classes] or [2, classes, H, W]; its modes are restored.

    Raises `ValueError` where it refuses the shape, or does not answer with logits.
    """
    try:
        with torch.no_grad(), evaluating(network), tensor_answers(network):
            answer = network(noise_for(network, inputs))
    except (RuntimeError, ValueError, IndexError) as error:
        reason = first_line(error)
        raise ValueError(f"The {name} refuses inputs of {inputs}: {reason}. Pass the shape that it was made for.") from error
    if not isinstance(answer, Tensor) or answer.dim() not in TASKS or len(answer) != 2:
        seen = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ValueError(
            f"The {name} answers two inputs with {seen}, not [2, classes] or [2, classes, height, width]; "
            "give a network that answers with logits."
        )
    return answer


def noise_for(network: nn.Module, inputs: InputSpec) -> Tensor:
    """Two inputs of noise, always the same, where the network's weights are."""
    weight = next(network.parameters(), torch.empty(0))
    return torch.randn(2, *inputs.shape, generator=torch.Generator().manual_seed(0)).to(weight.device)
