"""The weights that are taken of a checkpoint, once the network's own names are there, and what is reported of them."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from datafree.core.settings import Option
from datafree.networks.saved.checkpoints import fit
from datafree.networks.saved.prefixes import State
from datafree.networks.saved.weights import Checkpoint, plain

_SHOWN, _LONGEST = 3, 1000  # names in a list, and characters of an entry of the history


@dataclass
class Choice:
    """Takes the weights that fit a network of the checkpoint in the file `path`; `which` is that of `fit`."""

    checkpoint: Checkpoint
    which: str | None
    path: str | Path
    taken: list[State] = field(default_factory=list)

    def __call__(self, expected: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
        """The weights for a network with the state dict `expected`, and where they lie. Raises `ValueError` as `fit` does."""
        state = fit(self.checkpoint.states, expected, self.which, str(self.path))
        self.taken.append(state)
        return plain(state.tensors, self.path), f"{self.path}{_place(state)}"

    def report(self) -> dict[str, Option]:
        """Entries of the card's history: what of the file was taken, and what was not; none for a plain state dict."""
        state = self.taken[-1]
        averaged = state.averaged or any(each.averaged for each in state.beside)
        entries = {
            "taken": state.place,
            "weights": "" if not averaged else "averaged" if state.averaged else "ordinary",
            "beside": _listed(tuple(each.label for each in state.beside)),
            "dropped": state.dropped,
            "added": state.added,
            "left": _listed(state.left),
            "unread": _listed(self.checkpoint.foreign),
        }
        return {name: text[:_LONGEST] for name, text in entries.items() if text}


def _place(state: State) -> str:
    """Where the weights lie in their file, and what was cut from their names; empty for a plain state dict."""
    parts = [f"under {state.place!r}"] if state.place else []
    parts += [f"without {state.dropped!r}"] if state.dropped else []
    return f" ({', '.join(parts)})" if parts else ""


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(name[:200] for name in names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
