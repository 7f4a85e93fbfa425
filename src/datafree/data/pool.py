"""What a student looks at: a batch, the pool that batches are drawn from, and images read from anywhere."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datafree.core.spec import InputSpec


class Batch(NamedTuple):
    """Inputs for a student's step, detached, and what comes with them: the soft targets that they were made for, and logits."""

    x: Tensor  # [B, C, H, W], network units
    y: Tensor | None = None  # [B, classes], probabilities
    logits: Tensor | None = None  # [B, classes, ...], the teacher's, where it need not be asked again

    def part(self, rows: slice) -> "Batch":
        """Those of its examples."""
        return Batch(*(None if column is None else column[rows] for column in self))  # type: ignore[arg-type]


class Pool:
    """The newest `size` examples as 8-bit pixels on one device; with `size=0` only what was added last, unrounded.

    The targets that images were made for are kept where `targets` is set, in half precision; logits are kept where examples
    bring them. A pool of a few hundred thousand small images lives on the device, so that a step never waits for a loader.
    """

    def __init__(self, inputs: InputSpec, size: int, device: torch.device | str = "cpu", targets: bool = False):
        self.inputs, self.size, self.keeps_targets = inputs, size, targets
        self.pixels = torch.zeros(size, *inputs.shape, dtype=torch.uint8, device=device)
        self.columns: dict[str, Tensor] = {}  # `y` and `logits`, [size, ...] each, once examples bring them
        self.filled = 0  # examples in `pixels`
        self._next = 0  # the slot that the next example takes
        self._fresh: Batch | None = None

    def __len__(self) -> int:
        return self.filled

    def add(self, batch: Batch) -> None:
        """Join `batch`, x [B, C, H, W] in network units, to the pool; the oldest make room."""
        if not self.size:
            self._fresh = batch
            return
        pixels = self.inputs.to_pixels(batch.x)[-self.size :]
        slots = (self._next + torch.arange(len(pixels), device=pixels.device)) % self.size
        self.pixels[slots] = pixels
        y = batch.y.half() if batch.y is not None and self.keeps_targets else None
        for name, values in (("y", y), ("logits", batch.logits)):
            if values is not None:
                if name not in self.columns:
                    self._open(name, values)
                self.columns[name][slots] = values[-self.size :]
        self._next = (self._next + len(pixels)) % self.size
        self.filled = min(self.size, self.filled + len(pixels))

    def batches(self, steps: int, batch: int, generator: torch.Generator) -> Iterator[Batch]:
        """`steps` batches of `batch`: consecutive slices of what was added last, or random draws from the pool."""
        for step in range(steps):
            if self._fresh is not None:
                yield self._fresh.part(slice(step * batch, (step + 1) * batch))
            else:
                yield self.rows(torch.randint(0, self.filled, (batch,), generator=generator, device=self.pixels.device))

    def rows(self, rows: Tensor | slice) -> Batch:
        """Those slots' examples, in network units; a pool that is being filled for the first time has them in order."""
        if isinstance(rows, slice):
            rows = torch.arange(*rows.indices(self.filled), device=self.pixels.device)
        x = self.inputs.to_network(self.pixels[rows])
        return Batch(x, **{name: values[rows].float() for name, values in self.columns.items()})

    def newest(self, n: int) -> Tensor:
        """The n images that came last, as uint8 pixels."""
        if self._fresh is not None:
            return self.inputs.to_pixels(self._fresh.x[:n])
        n = min(n, self.filled)
        return self.pixels[(self._next - 1 - torch.arange(n, device=self.pixels.device)) % self.size]

    def state_dict(self) -> dict[str, Any]:
        """The pool as it stands. What `size=0` holds is used up within its round and is not part of it."""
        columns = {name: values[: self.filled] for name, values in self.columns.items()}
        return {"pixels": self.pixels[: self.filled], "columns": columns, "next": self._next}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.filled, self._next = len(state_dict["pixels"]), state_dict["next"]
        self.pixels[: self.filled] = state_dict["pixels"]
        for name, values in state_dict["columns"].items():
            self._open(name, values)
            self.columns[name][: self.filled] = values

    def _open(self, name: str, values: Tensor) -> None:
        """Room for a column of values like those."""
        self.columns[name] = torch.zeros(self.size, *values.shape[1:], dtype=values.dtype, device=self.pixels.device)


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
        return {"parts": [(pixels.clone(), targets.clone()) for pixels, targets in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.parts = [(pixels.to(self.device), targets.to(self.device)) for pixels, targets in state_dict["parts"]]
