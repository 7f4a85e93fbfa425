"""State that a checkpoint keeps: torch's `Stateful` protocol, and counters that follow it."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.distributed.checkpoint.stateful import Stateful
else:
    Stateful = Any  # only annotations use it, and importing it adds half a second to the start of every command

__all__ = ["Counter", "Counters", "Stateful"]


class Counter:
    """A count that a checkpoint keeps."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


@dataclass
class Counters:
    """Numbers of images, over all sessions of a run."""

    images: int = 0  # made by the method
    teacher_queries: int = 0  # images passed through the teacher
    variations: int = 0  # made by a diffusion model
    kept: int = 0  # variations that passed the filter

    def state_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)
