"""What a student looks at: a batch, the pool that batches are drawn from, and images read from anywhere."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datafree.images import fit, list_images, npz_pixels, read_files, read_npz
from datafree.setfile import SetCard, TransferSet, fitted, read_set
from datafree.spec import InputSpec


class Batch(NamedTuple):
    """Inputs for a student's step, detached, and what comes with them: the soft targets that they were made for, and logits."""

    x: Tensor  # [B, C, H, W], network units
    y: Tensor | None = None  # [B, classes], probabilities
    logits: Tensor | None = None  # [B, classes, ...], the teacher's, where it need not be asked again

    def part(self, rows: slice) -> "Batch":
        """Those of its examples."""
        return Batch(*(None if column is None else column[rows] for column in self))  # type: ignore[arg-type]


class Pool:
    """The newest `keep` examples as 8-bit pixels on one device; with `keep=0` only what was added last, unrounded.

    A pool of a few hundred thousand small images lives on the device, so that a step never waits for a loader.
    """

    def __init__(self, inputs: InputSpec, keep: int, device: torch.device | str = "cpu"):
        self.inputs, self.keep = inputs, keep
        self.pixels = torch.zeros(keep, *inputs.shape, dtype=torch.uint8, device=device)
        self.targets: Tensor | None = None  # [keep, classes], half precision, once examples bring such
        self.filled = 0  # examples in `pixels`
        self._next = 0  # the slot that the next example takes
        self._fresh: Batch | None = None

    def __len__(self) -> int:
        return self.filled

    def add(self, batch: Batch) -> None:
        """Join `batch`, x [B, C, H, W] in network units, to the pool; the oldest make room. Logits are not kept."""
        if not self.keep:
            self._fresh = batch
            return
        pixels = self.inputs.to_pixels(batch.x)[-self.keep :]
        slots = (self._next + torch.arange(len(pixels), device=pixels.device)) % self.keep
        self.pixels[slots] = pixels
        if batch.y is not None:
            if self.targets is None:
                self.targets = self._no_targets(batch.y.shape[1])
            self.targets[slots] = batch.y[-self.keep :].to(self.targets.dtype)
        self._next = (self._next + len(pixels)) % self.keep
        self.filled = min(self.keep, self.filled + len(pixels))

    def batches(self, steps: int, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """`steps` batches of `size`: consecutive slices of what was added last, or random draws from the pool."""
        for step in range(steps):
            if self._fresh is not None:
                yield self._fresh.part(slice(step * size, (step + 1) * size))
            else:
                rows = torch.randint(0, self.filled, (size,), generator=generator, device=self.pixels.device)
                y = None if self.targets is None else self.targets[rows].float()
                yield Batch(self.inputs.to_network(self.pixels[rows]), y)

    def rows(self, part: slice) -> Batch:
        """Those slots' examples, in network units; a pool that is being filled for the first time has them in order."""
        assert self.targets is not None
        here = slice(*part.indices(self.filled))
        return Batch(self.inputs.to_network(self.pixels[here]), self.targets[here].float())

    def newest(self, n: int) -> Tensor:
        """The n images that came last, as uint8 pixels."""
        if self._fresh is not None:
            return self.inputs.to_pixels(self._fresh.x[:n])
        n = min(n, self.filled)
        return self.pixels[(self._next - 1 - torch.arange(n, device=self.pixels.device)) % self.keep]

    def state_dict(self) -> dict[str, Any]:
        """The pool as it stands. What `keep=0` holds is used up within its round and is not part of it."""
        targets = None if self.targets is None else self.targets[: self.filled]
        return {"pixels": self.pixels[: self.filled], "targets": targets, "next": self._next}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.filled, self._next = len(state_dict["pixels"]), state_dict["next"]
        self.pixels[: self.filled] = state_dict["pixels"]
        if state_dict["targets"] is not None:
            self.targets = self._no_targets(state_dict["targets"].shape[1])
            self.targets[: self.filled] = state_dict["targets"]

    def _no_targets(self, classes: int) -> Tensor:
        return torch.zeros(self.keep, classes, dtype=torch.float16, device=self.pixels.device)


class Queue:
    """Examples with targets that wait, as 8-bit pixels on one device, to be dealt in the order they came."""

    def __init__(self, inputs: InputSpec, device: torch.device | str = "cpu"):
        self.inputs, self.device = inputs, device
        self.parts: list[tuple[Tensor, Tensor]] = []

    def __len__(self) -> int:
        return sum(len(pixels) for pixels, _ in self.parts)

    def add(self, batch: Batch) -> None:
        """Let `batch`, x [B, C, H, W] in network units with targets, wait behind the others."""
        assert batch.y is not None
        self.parts.append((self.inputs.to_pixels(batch.x), batch.y.half()))

    def deal(self, n: int) -> Batch:
        """The n examples that have waited longest."""
        pixels, targets = (torch.cat(column) for column in zip(*self.parts, strict=True))
        self.parts = [(pixels[n:], targets[n:])]
        return Batch(self.inputs.to_network(pixels[:n]), targets[:n].float())

    def state_dict(self) -> dict[str, Any]:
        """Those that wait."""
        return {"parts": [(pixels.clone(), targets.clone()) for pixels, targets in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.parts = [(pixels.to(self.device), targets.to(self.device)) for pixels, targets in state_dict["parts"]]


def read_images(path: str | Path, inputs: InputSpec) -> TransferSet:
    """Read a transfer set (by memory map), an `.npz`, or a folder of images, labelled or not, fitted to `inputs`.

    Labels are ignored. Raises `ValueError` where there is nothing readable.
    """
    path = Path(path)
    if path.is_dir():
        pixels = read_files(list_images(path), inputs.shape)
        return TransferSet(SetCard(inputs=inputs, provenance=f"folder {path.name}"), (pixels,))
    if path.suffix == ".npz":
        pixels = fit(npz_pixels(read_npz(path), path), inputs.shape)
        return TransferSet(SetCard(inputs=inputs, provenance=f"file {path.name}"), (pixels,))
    found = read_set(path)
    return dataclasses.replace(found, pixels=tuple(fitted(part, inputs.shape) for part in found.pixels))
