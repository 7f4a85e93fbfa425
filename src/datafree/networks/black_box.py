"""Black boxes: teachers that only answer, as a function of a person, a program of a vendor or a service does."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datafree.core.spec import InputSpec
from datafree.networks.outputs import Refused

BLACK_BOX = "black-box"  # what a card calls it
KNOWN = 8  # images of noise by whose answers a run knows its teacher again
DIGITS = 3  # of those answers, as shares of the largest: a service may compute a little differently each day
BATCH, VALUES = 256, 2**24  # images, and values of them, that are asked about at once, at most
KEPT = 2**24  # values of answers that are kept, at most: 64 MB

Answer = Callable[[Tensor], Any]


class BlackBox(nn.Module):
    """A teacher that is a function. It gives no gradient and shows no layers, so `procedural` and `stored` serve it.

    The same image is asked about once: answers are kept, the newest `KEPT` values of them, while the process lives. `asked`
    counts the images that the function has seen, `remembered` those that it was spared.

    Args:
        answer: takes images [B, C, H, W], float32, network units, on the CPU, and returns logits or probabilities [B, classes],
            a tensor or what numpy makes an array of.
        inputs: shape and scaling of one input.

    Raises:
        ValueError: the function fails, or returns something else.
    """

    def __init__(self, answer: Answer, inputs: InputSpec):
        super().__init__()
        self.answer = answer
        self.counts = {"asked": 0, "remembered": 0}
        self.kept: OrderedDict[bytes, Tensor] = OrderedDict()
        noise = torch.randn(KNOWN, *inputs.shape, generator=torch.Generator().manual_seed(0))
        found = self(noise)
        rounded = (found / found.abs().amax().clamp_min(1e-12)).mul(10**DIGITS).round()
        self.register_buffer("answers", rounded.to(torch.int32))

    def __deepcopy__(self, memo: dict[int, Any]) -> "BlackBox":
        """Another module with the same function, counts and answers."""
        copied = copy.copy(self)
        copied._buffers = dict(self._buffers)
        copied._forward_hooks = OrderedDict(self._forward_hooks)
        return copied

    def forward(self, x: Tensor) -> Tensor:
        """Answers [B, classes] to images [B, C, H, W] in network units, without gradients."""
        if x.is_meta:
            raise NotImplementedError("A black box has no shapes without values.")
        images = x.detach().float().cpu().contiguous()
        keys = [blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in images]
        new = [row for row, key in enumerate(keys) if key not in self.kept]
        fresh: dict[bytes, Tensor] = {}
        for rows in torch.tensor(new, dtype=torch.int64).split(max(1, min(BATCH, VALUES // images[0].numel()))):
            if len(rows):
                answers = self._asked(images[rows])
                fresh |= {keys[row]: answer for row, answer in zip(rows.tolist(), answers, strict=True)}
        self.counts["remembered"] += len(keys) - len(new)
        found = torch.stack([fresh[key] if key in fresh else self.kept[key] for key in keys])
        self.kept.update(fresh)
        while len(self.kept) * found.shape[1] > KEPT:
            self.kept.popitem(last=False)
        return found.to(x.device)

    def _asked(self, images: Tensor) -> Tensor:
        """What the function answers, float32 [B, classes]. Raises `Refused` unless that is one row of numbers an image."""
        self.counts["asked"] += len(images)
        answer = self.answer(images)
        if not isinstance(answer, Tensor):
            try:
                answer = torch.from_numpy(np.asarray(answer, dtype=np.float32).copy())
            except (TypeError, ValueError) as error:
                kind = type(answer).__name__
                raise Refused(
                    f"The teacher answers with a {kind}, not with numbers; let it return logits [B, classes]."
                ) from error
        if answer.dim() != 2 or len(answer) != len(images) or answer.shape[1] < 2:
            raise Refused(
                f"The teacher answers {list(answer.shape)} for {len(images)} images; let it return logits [B, classes], one "
                "row an image, of two classes or more."
            )
        return answer.detach().float().cpu()
