"""Transfer sets on disk: safetensors shards with a card, written atomically and read by memory map."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from datafree.files import header_of, replace_atomically
from datafree.images import fit
from datafree.settings import Settings, explain
from datafree.spec import InputSpec

_LABEL = "datafree.set"
MAX_CARD = 64 * 2**10  # bytes of a card's JSON


class SetCard(Settings):
    """The label on a shard: what its images are and where they come from. Shards of one set have equal cards."""

    format: Literal[1] = 1
    """Version of this label."""
    inputs: InputSpec
    """Shape and scaling of one input."""
    provenance: str = Field(max_length=1000)
    """Which real data the images hold; `none` where they were synthesised without any."""
    shards: PositiveInt = 1
    """Files that make up the set."""
    made: dict[str, Any] = Field(default_factory=dict, max_length=32)
    """How: method, settings, teacher, seed, count."""


@dataclass(frozen=True)
class TransferSet:
    """Images to distil on, in memory or memory-mapped, its shards one after the other.

    `pixels` are uint8, or float16 in [0, 1], each [N, C, H, W]; `targets` (soft, probabilities) and `logits` (the
    teacher's) are [N, classes], empty where the set has none.
    """

    card: SetCard
    pixels: tuple[Tensor, ...]
    targets: tuple[Tensor, ...] = ()
    logits: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return sum(len(part) for part in self.pixels)

    def save(self, path: str | Path) -> None:
        """Write the set as one safetensors file, atomically."""
        columns = {"pixels": self.pixels, "targets": self.targets, "logits": self.logits}
        card = self.card.model_copy(update={"shards": 1})
        write_shard(Path(path), card, {name: torch.cat(parts) for name, parts in columns.items() if parts})

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return sum(part.nbytes for part in self.pixels)

    def take(self, rows: Tensor) -> Tensor:
        """The pixels of `rows` [n], indices on the CPU, in their order; reads no others."""
        out = torch.empty(len(rows), *self.pixels[0].shape[1:], dtype=self.pixels[0].dtype)
        first = 0
        for part in self.pixels:
            here = (rows >= first) & (rows < first + len(part))
            out[here] = part[rows[here] - first]
            first += len(part)
        return out


def noise_set(inputs: InputSpec, n: int, seed: int) -> TransferSet:
    """n images of standard normal noise in network units, as pixels: the baseline that every method must beat."""
    x = torch.randn(n, *inputs.shape, generator=torch.Generator().manual_seed(seed))
    card = SetCard(inputs=inputs, provenance="none", made={"method": "noise", "seed": seed})
    return TransferSet(card, (inputs.to_pixels(x),))


def write_shard(path: Path, card: SetCard, tensors: Mapping[str, Tensor]) -> None:
    """Write `pixels` and, where given, `targets` and `logits` as one file, atomically."""
    ready = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    label = {_LABEL: card.model_dump_json()}
    replace_atomically(path, lambda temporary: save_file(ready, temporary, metadata=label))


def shard_path(path: Path, shard: int, shards: int) -> Path:
    """The file of shard `shard` of `shards`, counted from 1: `set.safetensors`, or `set-00003-of-00016.safetensors`."""
    return path if shards == 1 else path.with_name(f"{path.stem}-{shard:05}-of-{shards:05}{path.suffix}")


def is_set(path: Path) -> bool:
    """Whether `path` names a set of ours, whole or in shards."""
    files = _siblings(path) if not path.exists() else [path]
    return bool(files) and files[0].is_file() and files[0].suffix == ".safetensors" and _LABEL in header_of(files[0])


def read_set(path: Path) -> TransferSet:
    """Read a set, or the shards of one by their common name or by any one of them.

    Raises `ValueError` for a file that is none of ours or is cut short, and where a shard is missing or of another set.
    """
    files = [path] if path.is_file() else _siblings(path)
    if not files:
        raise ValueError(f"{path} does not exist; name a transfer set, an .npz or an image folder.")
    card = read_set_card(files[0])
    if card.shards > 1:
        files = [shard_path(_common(files[0]), i, card.shards) for i in range(1, card.shards + 1)]
        if missing := [file.name for file in files if not file.exists()]:
            raise ValueError(f"{len(missing)} of {card.shards} shards are missing, {missing[0]} first; finish them.")
        if foreign := [file.name for file in files if read_set_card(file) != card]:
            raise ValueError(f"{foreign[0]} is a shard of another set than {files[0].name}; make them with equal settings.")
    return _gathered(card, files)


def read_shard(file: Path) -> TransferSet:
    """Read one file of a set by itself. Raises `ValueError` as `read_set` does."""
    return _gathered(read_set_card(file), [file])


def _gathered(card: SetCard, files: list[Path]) -> TransferSet:
    parts = [_open(file) for file in files]
    columns = {name: tuple(part[name] for part in parts if name in part) for name in ("pixels", "targets", "logits")}
    return TransferSet(card, **columns)


def read_set_card(path: Path) -> SetCard:
    """The card of one shard. Raises `ValueError` where it is none of ours."""
    label = header_of(path).get(_LABEL)
    if label is None or len(label) > MAX_CARD:
        raise ValueError(f"{path} is not a transfer set of ours; write one with datafree synthesize.")
    try:
        return SetCard.model_validate_json(label)
    except ValidationError as error:
        raise ValueError(f"The card of {path} is not valid: {explain(error)}") from error


def fitted(part: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Pixels of a shard at a network's (C, H, W); float16 ones must have it already."""
    if tuple(part.shape[1:]) == shape:
        return part
    if part.dtype != torch.uint8:
        raise ValueError(
            f"The set's float16 images are {list(part.shape[1:])}, not {list(shape)}; make the set for this teacher."
        )
    return fit(part, shape)


def _open(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(os.fspath(path), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is not a dict
    except SafetensorError as error:
        raise ValueError(f"{path} is cut short or not a safetensors file ({error}); make it again.") from error
    pixels = tensors.get("pixels")
    if pixels is None or pixels.dim() != 4 or pixels.dtype not in (torch.uint8, torch.float16):
        raise ValueError(f"{path} is not a transfer set of ours: it needs pixels [N, C, H, W], uint8 or float16.")
    if any(len(value) != len(pixels) for value in tensors.values()):
        raise ValueError(f"{path} is not a transfer set of ours: its columns differ in length.")
    return tensors


def _common(path: Path) -> Path:
    return path.with_name(re.sub(r"-\d{5}-of-\d{5}$", "", path.stem) + path.suffix)


def _siblings(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.stem}-[0-9]*-of-[0-9]*{path.suffix}"))


def as_uint8(pixels: Tensor) -> Tensor:
    """Pixels of either kind as uint8, rounded and clipped."""
    if pixels.dtype == torch.uint8:
        return pixels
    return (pixels.float() * 255).round_().clamp_(0, 255).to(torch.uint8)


def spread(size: int, n: int) -> Tensor:
    """Up to n indices spread evenly over `size`."""
    return torch.linspace(0, size - 1, min(n, size)).round().long()


def describe(found: TransferSet) -> dict[str, str]:
    """What a person asks of a set: counts, classes, entropy, how sure the teacher is. Names to words."""
    said = {"images": f"{len(found):,} in {len(found.pixels)} file(s)", "provenance": found.card.provenance}
    if found.logits:
        logits = torch.cat(found.logits).float()
        chosen = torch.bincount(logits.argmax(1), minlength=logits.shape[1])
        said["classes (teacher's argmax)"] = " ".join(f"{i}:{count}" for i, count in enumerate(chosen.tolist()))
        sure = int((logits.softmax(1).amax(1) >= 0.9).sum())
        said["teacher sure (90 %)"] = f"{sure:,} images, {100 * sure / len(logits):.1f} %"
    if found.targets:
        targets = torch.cat(found.targets).float()
        entropy = torch.special.entr(targets).sum(1)
        uniform = torch.tensor(float(targets.shape[1])).log()
        said["entropy of the soft targets"] = f"{entropy.mean():.3f} ± {entropy.std():.3f} nats (uniform: {uniform:.3f})"
    return said
