"""Transfer sets on disk: safetensors shards with a card, written atomically and read by memory map."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt, ValidationError
from safetensors.torch import save_file
from torch import Tensor

from datafree.core.files import MAX_CARD, metadata_entry, opened_safetensors, replace_atomically
from datafree.core.settings import Settings, explain
from datafree.core.spec import InputSpec
from datafree.data.images import fit, list_images, npz_pixels, read_files, read_npz

_LABEL = "datafree.set"


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
    path: Path | None = None  # the file that it was read from, the first of its shards

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
    return (
        bool(files)
        and files[0].is_file()
        and files[0].suffix == ".safetensors"
        and metadata_entry(files[0], _LABEL) is not None
    )


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
    return TransferSet(card, **columns, path=files[0])


def read_set_card(path: Path) -> SetCard:
    """The card of one shard. Raises `ValueError` where it has none that is valid."""
    return _card(metadata_entry(path, _LABEL), path)


def _card(label: str | None, path: Path) -> SetCard:
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
    with opened_safetensors(path) as (_, read):
        tensors = read()
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
