"""The teacher that methods use: a frozen copy that counts its queries and can be read inside."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from datafree.core.modes import fastest_layout
from datafree.core.runtime import Runtime
from datafree.core.spec import InputSpec
from datafree.networks.black_box.answers import Answers
from datafree.networks.black_box.box import BlackBox
from datafree.networks.building.limits import FOREIGN
from datafree.networks.inside.folding import fold_batch_norms
from datafree.networks.outputs import explained, kind_of_outputs, logits_of, noise_for, probe, refusal

REFUSED = {
    "constant": "gives every image the same outputs, so there is nothing to learn; check its weights",
    "independent probabilities": "returns a probability for each class by itself, as of a sigmoid, which is for several labels "
    "an image; give a network that returns one class's logits, or leave its last sigmoid out; if they are logits that lie in "
    "0..1, return z + 1, which has the same softmax",
    "independent log-probabilities": "returns the logarithm of a probability for each class by itself, as of a log-sigmoid, "
    "which is for several labels an image; give a network that returns one class's logits, or leave its last log-sigmoid out; "
    "if they are logits that lie below 0, return z + 1, which has the same softmax",
}
NOTES = {
    "probabilities": "probabilities, whose logarithms serve as logits",
    "log-probabilities": "log-probabilities, which serve as logits",
    "negative logits": "all below zero, and are taken for logits; if they are of a log-sigmoid, leave it out",
}


class Teacher(nn.Module):
    """A frozen copy of the user's teacher, which itself is never changed; counts the images passed through it.

    `teacher(x)` returns logits [B, classes] or [B, classes, H, W] for x [B, C, H, W] in network units; the layers of
    `teacher.network` can be read during the call. `teacher.fast(x)` returns the same logits up to rounding, faster: its batch
    norms are folded into convolutions where possible, and it is compiled if the run uses torch.compile. In both, gradients
    flow to x but not to the weights. The teacher is always in eval mode. `outputs` is the kind of the network's own outputs, as
    `kind_of_outputs` names it; of probabilities the copy returns the logarithm, which are logits.

    Raises `ValueError` if the network fails on such inputs, here and in each call.
    """

    def __init__(self, network: nn.Module, inputs: InputSpec, runtime: Runtime):
        super().__init__()
        self.network = fastest_layout(copy.deepcopy(network).to(runtime.device)).requires_grad_(False)
        self.inputs, self.runtime = inputs, runtime
        self._answers: Answers | None = None
        self.eval()
        probe("teacher", self.network, inputs)
        with explained("teacher", self.network, inputs):
            self.outputs = kind_of_outputs(self.network, inputs)
        if self.outputs == "probabilities":
            self.network.register_forward_hook(lambda network, inputs, output: _log(output))

    def refuse_outputs(self) -> None:
        """Raise `ValueError` for outputs from which no student can learn classes."""
        if self.outputs in REFUSED:
            raise ValueError(f"The teacher {REFUSED[self.outputs]}.")

    @property
    def note(self) -> str:
        """What a person should know of its outputs; empty if they are logits."""
        return NOTES.get(self.outputs, "")

    def forward(self, x: Tensor) -> Tensor:
        self.runtime.counters.teacher_queries += len(x)
        try:
            return self._answers(x) if self._answers else _answer(self.network(x))
        except FOREIGN as error:
            self._explain(error)

    def fast(self, x: Tensor, readable: bool = False) -> Tensor:
        """Logits for x from the folded network; with `readable` it is not compiled, so that layers of `folded` can be read."""
        self.runtime.counters.teacher_queries += len(x)
        try:
            return self._answers(x) if self._answers else _answer((self.folded if readable else self._compiled)(x))
        except FOREIGN as error:
            self._explain(error)

    def _explain(self, error: BaseException) -> NoReturn:
        """Raise what the network raised as a sentence; hooks of ours that it calls raise nothing."""
        instead = refusal("teacher", self.network, self.inputs, error)
        raise instead from (error.__cause__ if instead is error else error)

    def fold(self) -> None:
        """Create `folded` now rather than at its first use: a layer that has a hook at that time is not folded."""
        self.folded  # noqa: B018

    @cached_property
    def folded(self) -> nn.Module:
        """The network with its foldable batch norms folded; `network` itself if there is none."""
        return fold_batch_norms(self.network, noise_for(self.network, self.inputs))

    @cached_property
    def _compiled(self) -> nn.Module:
        return self.network if isinstance(self.network, BlackBox) else self.runtime.compiled(self.folded)

    @contextmanager
    def keeping_answers(self, file: Path, since: int = 0) -> Iterator[None]:
        """Inside, a black box is asked once for each image, also by an earlier session whose answers are in `file`; any other
        teacher is asked as ever. `since`: images that it had been asked before this run. Raises `OSError` as `Answers` does.
        """
        if not isinstance(self.network, BlackBox):
            yield
            return
        self._answers = Answers(file, self.network, since)
        try:
            yield
        finally:
            self._answers.close()
            self._answers = None

    def questions(self) -> dict[str, float]:
        """Of a black box whose answers are kept: images sent to it, in this process, and answers that came from the file."""
        return {"images_sent": self._answers.asked, "answers_reused": self._answers.reused} if self._answers else {}

    def train(self, mode: bool = True) -> "Teacher":
        super().train(False)
        return self


def _answer(output: object) -> Tensor:
    """The logits; those of a forward under `inference_mode` copied, since no loss may use them as they are."""
    logits = logits_of(output)
    assert isinstance(logits, Tensor)
    return logits.clone() if logits.is_inference() else logits


def _log(output: object) -> Tensor:
    """The logarithm of probabilities, which is finite: those that round to 0 are taken for the least number above it."""
    probabilities = logits_of(output)
    assert isinstance(probabilities, Tensor)
    return probabilities.float().clamp_min(torch.finfo(torch.float32).tiny).log()
