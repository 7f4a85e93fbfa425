"""Runs an exported file on synthetic images, in batches of several sizes, beside the network that it was made of."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from datafree.core.modes import evaluating
from datafree.deploy.formats import runner

BATCHES = (1, 2, 5)
TOLERANCE = 1e-3  # share of the logits' largest value by which a float file may differ


@dataclass(frozen=True)
class Difference:
    """How an exported file's logits differ from the network's."""

    largest: float  # absolute difference
    scale: float  # largest absolute logit of the network
    agreement: float  # percent of images or pixels of which both name the same class
    images: int


def compare(graph: nn.Module, path: Path, to: str, images: Tensor, batch: int | None) -> Difference:
    """The difference over `images`, in batches of `BATCHES` in turn, or of `batch` where the file takes no other.

    Raises `ValueError` if the file does not run.
    """
    try:
        run = runner(path, to)
        theirs = torch.cat([run(part) for part in _parts(images, batch)])
    except ValueError:
        raise
    except Exception as error:  # each runtime has its own
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"The exported file does not run ({what[:200]}); try another format.") from error
    with evaluating(graph), torch.no_grad():
        ours = torch.cat([graph(part) for part in images[: len(theirs)].split(64)])
    same = (ours.argmax(1) == theirs.argmax(1)).float().mean().item()
    return Difference((ours - theirs).abs().max().item(), ours.abs().max().item(), 100 * same, len(theirs))


def refuse(found: Difference, to: str) -> None:
    """Raise `ValueError` if a float file does not compute what the network does."""
    if not found.largest <= TOLERANCE * max(found.scale, 1e-6):  # a NaN too
        raise ValueError(
            f"The {to} file computes something else: its logits differ by up to {found.largest:.2g} where the largest is "
            f"{found.scale:.2g}, so it is not kept; try another format."
        )


def agreement(one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], images: Tensor, batch: int) -> float:
    """Percent of images, or pixels, of which two networks name the same class; batches of `batch`, the last one cut off."""
    pairs = [(one(part).argmax(1), other(part).argmax(1)) for part in _parts(images, batch)]
    return 100 * torch.cat([(a == b).flatten() for a, b in pairs]).float().mean().item()


def _parts(images: Tensor, batch: int | None) -> list[Tensor]:
    if batch:
        return [part for part in images.split(batch) if len(part) == batch]
    parts: list[Tensor] = []
    at = 0
    while at < len(images):
        size = BATCHES[len(parts) % len(BATCHES)]
        parts.append(images[at : at + size])
        at += size
    return parts
