"""What survives a restart: torch's `Stateful`, which gives and takes a state dict, and the simplest one."""

from typing import Any

from torch.distributed.checkpoint.stateful import Stateful

__all__ = ["Counter", "Stateful"]


class Counter:
    """How many there have been, which survives a restart."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]
