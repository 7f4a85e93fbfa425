"""Candidates for a student: their sizes, found without memory, and the check that one can be built, run, saved and loaded."""

import dataclasses
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from datafree.core.modes import evaluating, fastest_layout, keeping_random
from datafree.core.spec import Shape
from datafree.core.spelling import spelled
from datafree.networks.building.limits import FOREIGN, limited
from datafree.networks.building.work import refuse_costly
from datafree.networks.inside.cost import latency_ms, multiply_adds
from datafree.networks.network import Card, Network, built, load, outlined
from datafree.networks.outputs import explained, logits_only, noise_for, probe
from datafree.networks.saved.weights import parameters
from datafree.networks.shrink.families import Variant

_WHILE_BUILT = 2  # times its weights that a network may have made while it is built, some of which it replaces
_HEADER = 120  # bytes of a tensor's entry in the header of a file, about


@dataclass(frozen=True)
class Candidate:
    """A network that may be the student.

    Args:
        card: its card, with the teacher's inputs and classes.
        kin: whether it is of the teacher's own family.
        imbalance: 0 where depth and width take an equal part in shrinking the teacher.
        weights: number of them.
        file_bytes: size of its file; of a candidate that is not checked, an estimate.
        multiply_adds: of one input; None if not counted.
        latency_ms: of a batch on this CPU; None if not measured.
        request: size by which it is asked for, of the pruned teacher, which no name describes; else empty.
    """

    card: Card
    kin: bool
    imbalance: float
    weights: int
    file_bytes: int
    multiply_adds: int | None = None
    latency_ms: float | None = None
    request: str = ""

    @property
    def name(self) -> str:
        """The student in one word, as `--student` takes it."""
        if self.request:
            return self.request
        return spelled(self.card.architecture, self.card.options)


@dataclass(frozen=True)
class Search:
    """Makes candidates for one teacher.

    Args:
        teacher: its card.
        most: weights of the teacher; a candidate has fewer.
        resized_to: shape to which a student resizes its inputs inside; None: the teacher's.
        allow_code: packages whose code may be imported and called to build a candidate.
        batch: inputs in a batch of which the latency is measured.
    """

    teacher: Card
    most: int
    resized_to: Shape | None = None
    allow_code: Collection[str] = ()
    batch: int = 1

    def sized(self, variant: Variant, count: bool) -> Candidate | None:
        """The candidate with its number of weights, with `count` also of its multiply-adds.

        None if it cannot be built, or has no fewer weights than the teacher.
        """
        card = student_card(variant.architecture, self.teacher, variant.options, self.resized_to)
        try:
            # A far larger network is not built to its end.
            with limited(variant.architecture, most=_WHILE_BUILT * self.most):
                module = outlined(card, self.allow_code, most=self.most)
            if parameters(module) >= self.most:
                return None
            adds = multiply_adds(module, card.inputs) if count else None
        except FOREIGN:  # a variant that does not exist in this size, for these inputs or options
            return None
        state = module.state_dict().values()
        size = sum(value.numel() * value.element_size() + _HEADER for value in state)
        return Candidate(card, variant.kin, variant.imbalance, parameters(module), size, adds)

    def timed(self, candidate: Candidate) -> Candidate:
        """The candidate with its latency. Raises `ValueError` if it cannot be built or fails."""
        with keeping_random(torch.device("cpu")):
            module = built(candidate.card, self.allow_code)
        with explained("student", module, candidate.card.inputs):
            latency = self._latency(module, candidate.card)
        return dataclasses.replace(candidate, latency_ms=latency)

    def checked(self, candidate: Candidate, made: nn.Module | None = None) -> Candidate:
        """The candidate with all its sizes, measured on the real network, which was saved and loaded: `made`, or a new one.

        Raises `ValueError` if it cannot be built, fails for its inputs, or is another network after that.
        """
        card = candidate.card
        with keeping_random(torch.device("cpu")):
            torch.manual_seed(0)
            module = made.eval() if made else built(card, self.allow_code).eval()
            refuse_costly("student", module, card.inputs)
            logits = probe("student", module, card.inputs)
            card.check(logits)
            size = _round_trip(Network(module, card), self.allow_code)
        with explained("student", module, card.inputs):
            latency = candidate.latency_ms or self._latency(module, card)
            adds = multiply_adds(module, card.inputs)
        return dataclasses.replace(candidate, file_bytes=size, multiply_adds=adds, latency_ms=latency)

    def _latency(self, module: nn.Module, card: Card) -> float:
        """The lesser of two medians, ms: what else this machine does makes one of them long."""
        fastest_layout(module.eval())
        return min(latency_ms(module, card.inputs, batch=self.batch) for _ in range(2))


def student_card(architecture: str, teacher: Card, options: dict, resized_to: Shape | None) -> Card:  # type: ignore[type-arg]
    """The card of a student that is fed as the network of the card `teacher`."""
    return Card(
        architecture=architecture,
        options=options,
        classes=teacher.classes,
        task=teacher.task,
        inputs=teacher.inputs,
        resized_to=resized_to,
    )


def _round_trip(network: Network, allow_code: Collection[str]) -> int:
    """Size of the file of `network`, bytes. Raises `ValueError` unless that file gives the same outputs."""
    with tempfile.TemporaryDirectory(prefix="datafree-") as folder:
        file = Path(folder) / "student.safetensors"
        network.save(file)
        again = load(file, allow_code).module
        x = noise_for(network.module, network.card.inputs)[:1]
        with torch.no_grad(), evaluating(network.module), logits_only(network.module), logits_only(again):
            same = torch.allclose(network.module(x), again(x), atol=1e-5, rtol=1e-4)
        if not same:
            raise ValueError(
                f"{network.card.architecture} gives other outputs after it was saved and loaded; name another student."
            )
        return file.stat().st_size
