"""Watches what a method makes for collapse: images of one class, or all alike; and has the method begin anew."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from datafree.core.settings import Settings
from datafree.engine.method import Problem

WATCHED = 64  # images of a round that are looked at


class Guard(Settings):
    """When images count as collapsed. What was measured is in the log as `round_entropy` and `round_distance`."""

    every: NonNegativeInt = 0
    """Rounds between two looks at a round's images; 0: never."""
    least_entropy: float = Field(0.25, ge=0, le=1)
    """Least entropy of the teacher's classes over the images, as a share of the largest possible."""
    least_distance: float = Field(0.1, ge=0)
    """Least distance between two images, root mean square over their pixels in network units (independent noise: 1.41)."""
    patience: PositiveInt = 2
    """Lines of the log in a row that must show a collapse before the method begins anew."""
    restarts: NonNegativeInt = 3
    """Most times that it does."""


class Watch:
    """A guard at work."""

    def __init__(self, settings: Guard, problem: Problem):
        self.settings, self.problem = settings, problem
        self.strikes = 0  # lines of the log in a row that showed a collapse
        self.restarts = 0

    @torch.no_grad()
    def look(self, x: Tensor, round_: int) -> None:
        """Note how diverse x [B, C, H, W] is, when it is time."""
        if not self.settings.every or round_ % self.settings.every:
            return
        some = x[torch.linspace(0, len(x) - 1, min(WATCHED, len(x)), device=x.device).round().long()]
        runtime, classes = self.problem.teacher.runtime, self.problem.classes
        with runtime.autocast():
            chosen = self.problem.teacher.fast(some).argmax(1)
        shares = F.one_hot(chosen.flatten(), classes).float().mean(0)
        most = math.log(min(classes, chosen.numel())) or 1.0  # few images have at most as many classes as they are
        runtime.note("round_entropy", torch.special.entr(shares).sum() / most)
        runtime.note("round_distance", distance(some))

    def collapsed(self, values: dict[str, float]) -> bool:
        """Whether the values of a line of the log, the last of several, ask for a new beginning, which is then counted."""
        if "round_entropy" not in values:
            return False
        settings = self.settings
        low = values["round_entropy"] < settings.least_entropy or values["round_distance"] < settings.least_distance
        self.strikes = self.strikes + 1 if low else 0
        if self.strikes < settings.patience or self.restarts >= settings.restarts:
            return False
        self.strikes, self.restarts = 0, self.restarts + 1
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"strikes": self.strikes, "restarts": self.restarts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.strikes, self.restarts = state_dict["strikes"], state_dict["restarts"]


def distance(x: Tensor) -> Tensor:
    """Mean over neighbours in x [B, C, H, W] of their distance, root mean square over the pixels, a scalar."""
    return (x - x.roll(1, 0)).square().mean((1, 2, 3)).sqrt().mean()
