"""The images that a student is trained on: a batch, the pool that batches are drawn from, and a queue."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datafree.core.spec import InputSpec


class Batch(NamedTuple):
    """Inputs for a student's step, detached, with the soft targets that they were made for and the teacher's logits, if any."""

    x: Tensor  # [B, C, H, W], network units
    y: Tensor | None = None  # [B, classes], probabilities
    logits: Tensor | None = None  # [B, classes, ...], of the teacher, if they were computed before

    def part(self, rows: slice) -> "Batch":
        """The examples `rows` of this batch."""
        return Batch(*(None if column is None else column[rows] for column in self))  # type: ignore[arg-type]


class Pool:
    """The newest `size` examples as 8-bit pixels on one device; with `size=0` only the batch added last, not rounded.

    With `targets`, the targets that images were made for are kept too, in half precision. Logits are kept if the added batches
    have them. A few hundred thousand small images fit on the device, so that a step never waits for a data loader.
    """

    def __init__(
        self,
        inputs: InputSpec,
        size: int,
        device: torch.device | str = "cpu",
        targets: bool = False,
        classes: int | None = None,
    ):
        self.inputs, self.size, self.keeps_targets, self.classes = inputs, size, targets, classes
        self.pixels = torch.zeros(size, *inputs.shape, dtype=torch.uint8, device=device)
        self.columns: dict[str, Tensor] = {}  # `y` and `logits`, [size, ...] each, from the first batch that has them
        self.filled = 0  # examples in `pixels`
        self._next = 0  # slot of the next example
        self._newest: Batch | None = None  # the batch added last, with size 0

    def __len__(self) -> int:
        return self.filled

    def add(self, batch: Batch) -> None:
        """Add `batch`; in a full pool its examples replace the oldest ones."""
        if not self.size:
            self._newest = batch
            return
        pixels = self.inputs.to_pixels(batch.x)[-self.size :]
        slots = (self._next + torch.arange(len(pixels), device=pixels.device)) % self.size
        self.pixels[slots] = pixels
        y = batch.y.half() if batch.y is not None and self.keeps_targets else None
        for name, values in (("y", y), ("logits", batch.logits)):
            if values is not None:
                if name not in self.columns:
                    self._allocate(name, values)
                self.columns[name][slots] = values[-self.size :]
        self._next = (self._next + len(pixels)) % self.size
        self.filled = min(self.size, self.filled + len(pixels))

    def batches(self, steps: int, batch: int, generator: torch.Generator) -> Iterator[Batch]:
        """`steps` batches of `batch` examples: random draws from the pool, or with `size=0` slices of the last batch."""
        for step in range(steps):
            if self._newest is not None:
                yield self._newest.part(slice(step * batch, (step + 1) * batch))
            else:
                yield self.rows(torch.randint(0, self.filled, (batch,), generator=generator, device=self.pixels.device))

    def rows(self, rows: Tensor | slice) -> Batch:
        """The examples in the slots `rows`. Until the pool is full, slots are in the order of addition."""
        if isinstance(rows, slice):
            rows = torch.arange(*rows.indices(self.filled), device=self.pixels.device)
        x = self.inputs.to_network(self.pixels[rows])
        return Batch(x, **{name: values[rows].float() for name, values in self.columns.items()})

    def newest(self, n: int) -> Tensor:
        """The `n` newest images, uint8 [n, C, H, W]."""
        if self._newest is not None:
            return self.inputs.to_pixels(self._newest.x[:n])
        n = min(n, self.filled)
        return self.pixels[(self._next - 1 - torch.arange(n, device=self.pixels.device)) % self.size]

    def spread(self, n: int) -> Tensor:
        """Up to `n` images spread evenly over the pool, or over the last batch, [n, C, H, W] in network units."""
        size = len(self._newest.x) if self._newest is not None else self.filled
        rows = torch.linspace(0, size - 1, min(n, size)).round().long().to(self.pixels.device)
        return self._newest.x[rows] if self._newest is not None else self.inputs.to_network(self.pixels[rows])

    def state_dict(self) -> dict[str, Any]:
        # The batch that size 0 keeps is used within its round, so it is not saved.
        # Copies, since a file of a view holds all that the view is of, so also the slots that are still empty.
        columns = {name: values[: self.filled].clone() for name, values in self.columns.items()}
        return {"pixels": self.pixels[: self.filled].clone(), "columns": columns, "next": self._next}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        filled, columns = len(state_dict["pixels"]), state_dict["columns"]
        fits = filled <= self.size and 0 <= state_dict["next"] < max(1, self.size) and {*columns} <= {"y", "logits"}
        if not fits or any(len(values) != filled for values in columns.values()):
            raise ValueError(f"the pool of {filled} images is not one of {self.size}")
        for name, values in columns.items():
            if not values.is_floating_point() or values.dim() < 2 or values.shape[1] != (self.classes or values.shape[1]):
                raise ValueError(f"the pool's {name} are {values.dtype} {list(values.shape)}")
        self.filled, self._next = filled, state_dict["next"]
        self.pixels[: self.filled] = state_dict["pixels"]
        for name, values in state_dict["columns"].items():
            self._allocate(name, values)
            self.columns[name][: self.filled] = values

    def _allocate(self, name: str, values: Tensor) -> None:
        """Allocate the column `name` for entries with the shape and type of those in `values`."""
        self.columns[name] = torch.zeros(self.size, *values.shape[1:], dtype=values.dtype, device=self.pixels.device)


class Queue:
    """First-in, first-out queue of examples with targets, as 8-bit pixels on one device."""

    def __init__(self, inputs: InputSpec, device: torch.device | str = "cpu", classes: int | None = None):
        self.inputs, self.device, self.classes = inputs, device, classes
        self.parts: list[tuple[Tensor, Tensor]] = []

    def __len__(self) -> int:
        return sum(len(pixels) for pixels, _ in self.parts)

    def add(self, batch: Batch) -> None:
        """Append `batch`, which has targets."""
        assert batch.y is not None
        self.parts.append((self.inputs.to_pixels(batch.x), batch.y.half()))

    def take(self, n: int) -> Batch:
        """Remove and return the `n` oldest examples."""
        pixels, targets = (torch.cat(column) for column in zip(*self.parts, strict=True))
        self.parts = [(pixels[n:], targets[n:])]
        return Batch(self.inputs.to_network(pixels[:n]), targets[:n].float())

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [(pixels.clone(), targets.clone()) for pixels, targets in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        parts = [(pixels.to(self.device), targets.to(self.device)) for pixels, targets in state_dict["parts"]]
        for pixels, targets in parts:
            if pixels.dtype != torch.uint8 or pixels.shape[1:] != self.inputs.shape or len(pixels) != len(targets):
                raise ValueError(f"the queue holds {list(pixels.shape)} pixels and {list(targets.shape)} targets")
            if targets.dtype != torch.float16 or targets.dim() != 2 or targets.shape[1] != (self.classes or targets.shape[1]):
                raise ValueError(f"the queue's targets are {targets.dtype} {list(targets.shape)}")
        self.parts = parts
