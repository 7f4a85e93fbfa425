"""Files of whole networks without code: which kind a file is, and the module in it."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from datafree.networks.programs.archive import is_exported
from datafree.networks.programs.batch import freed
from datafree.networks.programs.exported import read_exported
from datafree.networks.programs.program import Program


@dataclass(frozen=True)
class Found:
    """A network in a file.

    Args:
        module: takes images [B, C, H, W], in eval mode.
        kind: what the file is, for a person.
        architecture: what a card calls it.
        shape: of one image, if the file says it.
        notes: what a person should know of it.
        images: the number for which it was made, if it was for one only; the module takes any.
    """

    module: nn.Module
    kind: str
    architecture: str
    shape: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()
    images: int | None = None


EXPORTED = "program of torch.export"


def kind_of(path: Path) -> str:
    """What whole network a file holds, by its first bytes and the names in it; empty if none."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return ""
    return EXPORTED if is_exported(path) else ""


def read_network(path: Path, kind: str, allow_code: Collection[str] = (), shape: tuple[int, ...] | None = None) -> Found:
    """The network in a file of this kind; `shape` is that of one image, where the file does not say it.

    Raises `ValueError`, which names the file, if it cannot be served.
    """
    try:
        graph, weights, images = read_exported(path)
        if images is not None:
            graph = freed(graph, weights, images)
        return Found(Program(graph, weights), kind, "program", graph.shape, (), images)
    except ValueError as error:
        raise ValueError(f"The {kind} in {path} {error}.") from error
