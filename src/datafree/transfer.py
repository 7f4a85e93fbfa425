"""What a student looks at: a batch, and the transfer set, the same thing as a pool in memory and as a file."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from datafree.files import header_of, replace_atomically
from datafree.images import fit, list_images, npz_pixels, read_files, read_npz
from datafree.spec import InputSpec


class Batch(NamedTuple):
    """Inputs for a student's step, detached, and the soft targets that they were made for, where there are such."""

    x: Tensor  # [B, C, H, W], network units
    y: Tensor | None = None  # [B, classes], probabilities


class TransferSet:
    """The newest `keep` examples as 8-bit pixels on one device; with `keep=0` only what was added last, unrounded.

    A pool of a few hundred thousand small images lives on the device, so that a step never waits for a loader.
    """

    def __init__(self, inputs: InputSpec, keep: int, device: torch.device | str = "cpu"):
        self.inputs, self.keep = inputs, keep
        self.pixels = torch.zeros(keep, *inputs.shape, dtype=torch.uint8, device=device)
        self.filled = 0  # examples in `pixels`
        self._next = 0  # the slot that the next example takes
        self._fresh: Tensor | None = None

    def __len__(self) -> int:
        return self.filled

    def add(self, batch: Batch) -> None:
        """Join `batch`, x [B, C, H, W] in network units, to the pool; the oldest make room."""
        if not self.keep:
            self._fresh = batch.x
            return
        pixels = self.inputs.to_pixels(batch.x)[-self.keep :]
        slots = (self._next + torch.arange(len(pixels), device=pixels.device)) % self.keep
        self.pixels[slots] = pixels
        self._next = (self._next + len(pixels)) % self.keep
        self.filled = min(self.keep, self.filled + len(pixels))

    def batches(self, steps: int, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """`steps` batches of `size`: consecutive slices of what was added last, or random draws from the pool."""
        for step in range(steps):
            if self._fresh is not None:
                yield Batch(self._fresh[step * size : (step + 1) * size])
            else:
                rows = torch.randint(0, self.filled, (size,), generator=generator, device=self.pixels.device)
                yield Batch(self.inputs.to_network(self.pixels[rows]))

    def newest(self, n: int) -> Tensor:
        """The n images that came last, as uint8 pixels."""
        if self._fresh is not None:
            return self.inputs.to_pixels(self._fresh[:n])
        n = min(n, self.filled)
        return self.pixels[(self._next - 1 - torch.arange(n, device=self.pixels.device)) % self.keep]

    def state_dict(self) -> dict[str, Any]:
        """The pool as it stands. What `keep=0` holds is used up within its round and is not part of it."""
        return {"pixels": self.pixels[: self.filled], "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a pool saved by `state_dict`."""
        self.filled, self._next = len(state["pixels"]), state["next"]
        self.pixels[: self.filled] = state["pixels"]

    def save(self, path: str | Path, provenance: str) -> None:
        """Write the pool as one safetensors file; `provenance` says where its images come from (`none`: no real data)."""
        meta = {"datafree.set": json.dumps({"inputs": self.inputs.model_dump(), "provenance": provenance})}
        pixels = self.pixels[: self.filled].contiguous().cpu()
        replace_atomically(Path(path), lambda temporary: save_file({"pixels": pixels}, temporary, metadata=meta))


class StoredPixels(NamedTuple):
    """A set read from disk: pixels [N, C, H, W], uint8, and which real data they hold (`none`: synthesised)."""

    pixels: Tensor
    provenance: str


def read_pixels(path: str | Path, inputs: InputSpec) -> StoredPixels:
    """Read a saved transfer set, an `.npz`, or a folder of images, labelled or not, fitted to `inputs`.

    Labels are ignored. Raises `ValueError` where there is nothing readable.
    """
    path = Path(path)
    if path.is_dir():
        return StoredPixels(read_files(list_images(path), inputs.shape), f"folder {path.name}")
    if not path.exists():
        raise ValueError(f"{path} does not exist; name a transfer set, an .npz or an image folder.")
    if path.suffix == ".npz":
        return StoredPixels(fit(npz_pixels(read_npz(path), path), inputs.shape), f"file {path.name}")
    return _read_saved(path, inputs)


def _read_saved(path: Path, inputs: InputSpec) -> StoredPixels:
    what = f"{path} is not a transfer set of ours, or is cut short"
    label = header_of(path).get("datafree.set")
    if label is None:
        raise ValueError(f"{what}; write one with TransferSet.save.")
    try:
        card = json.loads(label)
        InputSpec.model_validate(card["inputs"])
        provenance = str(card["provenance"])
        with safe_open(os.fspath(path), "pt") as file:
            pixels = file.get_tensor("pixels")
    except (SafetensorError, KeyError, ValidationError, json.JSONDecodeError) as error:
        raise ValueError(f"{what} ({error}); write one with TransferSet.save.") from error
    return StoredPixels(fit(pixels, inputs.shape), provenance)
