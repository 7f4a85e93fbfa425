"""A function from images to logits as a network: it is asked in batches, its answers are checked and counted."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datafree.core.shortages import is_out_of_memory
from datafree.core.spec import InputSpec
from datafree.networks.black_box.command import Command
from datafree.networks.building.limits import FOREIGN, reason_of
from datafree.networks.outputs import ALIKE, TASKS, Refused, flattened, logits_of, noise_for

NOTE = "a black box: no gradient reaches its inputs, so only images that need none can be used, those of procedural and stored"
STEPS = 128  # of the largest answer, to which those by which it is known are rounded: the last bits differ between machines
LEAST = 1e-30  # below which probabilities count as equal there

Ask = Callable[[Tensor], Any]


class BlackBox(nn.Module):
    """A function from images to logits as a teacher. Nothing is known of it but its answers; no gradient reaches its inputs.

    A few fixed images are asked at once, whose rounded answers are a buffer: by them a run knows its teacher. Copies share the
    function and the count of its images.

    Args:
        ask: gets a batch x [B, C, H, W], float32 on the CPU, network units, contiguous and its own to change; returns a tensor,
            an array or nested lists of logits [B, classes] (of segmentation [B, classes, H, W]), or of probabilities. It is
            called without gradients and autocast. An image's answer may not depend on the others of its batch, nor change.
        inputs: shape and scaling of one input.
        batch: most images in a call.

    Raises:
        ValueError: `batch` is not positive; the function fails or returns something else, here and in each later pass.
    """

    def __init__(self, ask: Ask, inputs: InputSpec, batch: int = 256):
        super().__init__()
        if batch < 1:
            raise ValueError(f"A batch of {batch} images is not possible; give at least 1.")
        self.inputs, self.questions = inputs, Questions(ask, inputs, batch)
        self.register_buffer("answers", self._first_answers())

    @property
    def asked(self) -> int:
        """Images that this process sent to the function."""
        return self.questions.asked

    def forward(self, x: Tensor) -> Tensor:
        """The answers to x [B, C, H, W], float32, on its device."""
        parts = x.detach().float().cpu().split(self.questions.batch)
        return torch.cat([self.questions(part.clone(memory_format=torch.contiguous_format)) for part in parts]).to(x.device)

    def _first_answers(self) -> Tensor:
        """The answers to noise and to two flat images, rounded. Raises `ValueError` if the same image gets another answer."""
        noise = noise_for(self, self.inputs)
        flat = self.inputs.to_network(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, *self.inputs.shape))
        together, again = self(torch.cat([noise, flat])), self(noise[:1])
        if not torch.allclose(together[:1], again, rtol=0, atol=ALIKE * float(again.abs().max())):
            raise ValueError(
                f"{self.questions.name} answers an image otherwise beside others, or when it is asked again; make it answer "
                "each image by itself, and always the same: in eval mode, without random numbers."
            )
        found = flattened(together)
        if bool((found >= 0).all() and (found <= 1).all()):  # probabilities, of which one is near 1 for almost any image
            found = found.clamp_min(LEAST).log()
        largest = float(found.abs().max())
        unit = 2.0 ** math.ceil(math.log2(largest)) if largest else 1.0
        return (found / unit * STEPS).round().to(torch.int16)


class Questions:
    """Asks the function, and counts and checks; copies of a network share it."""

    def __init__(self, ask: Ask, inputs: InputSpec, batch: int):
        self.ask, self.inputs, self.batch = ask, inputs, batch
        kind = "command" if isinstance(ask, Command) else "function"
        self.name = f"The {kind} {getattr(ask, '__name__', type(ask).__name__)!r}"
        self.asked = 0
        self.shape: torch.Size | None = None  # of one answer

    def __deepcopy__(self, memo: dict[int, Any]) -> "Questions":
        return self

    def __call__(self, x: Tensor) -> Tensor:
        """The answers to x, float32. Raises `Refused` if they are none."""
        images = len(x)
        with (
            torch.no_grad(),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
            torch.random.fork_rng(devices=[]),  # those of the run do not depend on how often it is asked
        ):
            try:
                found = self.ask(x)
            except FOREIGN as error:
                if isinstance(error, Refused) or is_out_of_memory(error):
                    raise
                raise Refused(
                    f"{self.name} failed for {images} images of {self.inputs} ({type(error).__name__}: {reason_of(error)}); it "
                    "must take a tensor [B, C, H, W] of any number of images."
                ) from error
        self.asked += images
        return self._checked(found, images)

    def _checked(self, answer: Any, images: int) -> Tensor:
        found: Any = logits_of(answer)
        if not isinstance(found, Tensor):
            try:
                found = torch.from_numpy(np.array(found, dtype=np.float32))
            except (ValueError, TypeError, RuntimeError) as error:
                raise Refused(
                    f"{self.name} returns {type(found).__name__}, not a tensor or array of numbers [B, classes]; change that."
                ) from error
        if found.dim() not in TASKS or len(found) != images or found.shape[1] < 2 or found.is_complex():
            raise Refused(
                f"{self.name} answers {images} images with numbers {list(found.shape)}, not [{images}, classes]; make it "
                "return a logit or a probability for each class, two classes or more."
            )
        if self.shape not in (None, found.shape[1:]):
            raise Refused(
                f"{self.name} answers an image with numbers {list(found.shape[1:])}, and an earlier one with "
                f"{list(self.shape or ())}; make it return as many each time."
            )
        self.shape = found.shape[1:]
        logits: Tensor = found.detach().to("cpu", torch.float32, copy=True)  # the function may use its memory again
        if not bool(logits.isfinite().all()):
            first = int((~logits.isfinite()).flatten(1).any(1).nonzero()[0])
            raise Refused(
                f"{self.name} answers image {first + 1} of {images} with NaN or infinity; make it return finite numbers, "
                "probabilities rather than the logarithm of 0."
            )
        return logits
