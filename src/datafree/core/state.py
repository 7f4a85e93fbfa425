"""What survives a restart: torch's `Stateful`, which gives and takes a state dict, and the simplest ones."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.distributed.checkpoint.stateful import Stateful
else:
    Stateful = Any  # only annotations name it, and to import it takes half a second of every command's start

__all__ = ["Counter", "Counters", "Stateful"]


class Counter:
    """How many there have been, which survives a restart."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


@dataclass
class Counters:
    """Images that a run has counted, over all its sessions."""

    images: int = 0  # that the method made
    teacher_queries: int = 0
    variations: int = 0  # that a diffusion model made
    kept: int = 0  # of those, by the filter

    def state_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)
