"""What the teacher's norms saw of all earlier batches, joined to what they see of this one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from datafree.networks.inside.taps import NormStatistics


class History:
    """Averages over batches of what the teacher's norms saw, joined to what they see now (the paper's "MMT", arXiv 2112.06253).

    With a decay of 0 it keeps nothing. Until the first batch is done there is nothing to join.
    """

    def __init__(self, decay: float, channels: Mapping[str, int] | None = None):
        self.decay, self.channels = decay, channels  # the latter by the names of the norms
        self.averages: dict[str, tuple[Tensor, Tensor]] = {}  # mean and variance of each norm
        self._last: dict[str, tuple[Tensor, Tensor]] = {}

    def joined(self, norms: dict[str, NormStatistics]) -> list[NormStatistics]:
        """Each norm's statistics, the batch's own with the share 1 - decay."""
        if not self.decay:
            return list(norms.values())
        self._last = {name: (s.mean.detach(), s.variance.detach()) for name, s in norms.items()}
        if not self.averages:
            return list(norms.values())
        joined = []
        for name, s in norms.items():
            mean, variance = (old.to(s.mean.device) for old in self.averages.get(name, self._last[name]))
            share = self.decay
            joined.append(replace(s, mean=torch.lerp(s.mean, mean, share), variance=torch.lerp(s.variance, variance, share)))
        return joined

    def update(self) -> None:
        """A batch is done: what the norms saw last joins the averages."""
        for name, last in self._last.items():
            old = self.averages.get(name, last)
            mean, variance = (torch.lerp(new, before, self.decay) for new, before in zip(last, old, strict=True))
            self.averages[name] = (mean, variance)

    def forget(self) -> None:
        """Begin anew, as if no batch had been made."""
        self.averages, self._last = {}, {}

    def state_dict(self) -> dict[str, Any]:
        return {"averages": {name: list(pair) for name, pair in self.averages.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        averages = {name: (mean, variance) for name, (mean, variance) in state_dict["averages"].items()}
        for mean, variance in averages.values():
            if (
                mean.dim() != 1
                or mean.shape != variance.shape
                or not (mean.is_floating_point() and variance.is_floating_point())
            ):
                raise ValueError("its averages are not a mean and a variance for each channel")
        sizes = {name: len(mean) for name, (mean, _) in averages.items()}
        if self.channels is not None and not sizes.items() <= self.channels.items():
            raise ValueError("its averages are those of other norms")
        self.averages = averages
