"""Transfer sets: safetensors shards with a card, written atomically and read by memory map."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from safetensors.torch import save_file
from torch import Tensor

from datafree.core.files import MAX_CARD, metadata_entry, opened_safetensors, replace_atomically
from datafree.core.filetypes import DESCRIPTIONS, file_type
from datafree.core.settings import Settings, explain
from datafree.core.spec import InputSpec
from datafree.data.set_checks import COLUMNS, layout, mismatch

_LABEL = "datafree.set"
MOST_SHARDS = 99_999  # a shard's number has five digits in its name


class SetCard(Settings):
    """Metadata of a shard: what its images are and where they come from. All shards of a set have the same card."""

    format: Literal[1] = 1
    """Version of the card's format."""
    inputs: InputSpec
    """Shape and scaling of one input."""
    provenance: str = Field(max_length=1000)
    """Real data that the images come from; `none` if they were synthesised without any."""
    shards: int = Field(1, ge=1, le=MOST_SHARDS)
    """Number of files of the set."""
    made: dict[str, Any] = Field(default_factory=dict, max_length=32)
    """How the set was made: method and its settings, teacher, seed, number of images."""


@dataclass(frozen=True)
class TransferSet:
    """Images to distil on, in memory or memory-mapped, as one tensor a shard.

    Args:
        card: what the images are and where they come from.
        pixels: [N, C, H, W] each, uint8, or float16 in [0, 1].
        targets: soft targets that the images were made for, [N, classes] each, probabilities; empty if the set has none.
        logits: the teacher's logits, [N, classes] each; empty if the set has none.
        path: file of the first shard, if the set was read from files.
    """

    card: SetCard
    pixels: tuple[Tensor, ...]
    targets: tuple[Tensor, ...] = ()
    logits: tuple[Tensor, ...] = ()
    path: Path | None = None

    def __len__(self) -> int:
        return sum(len(part) for part in self.pixels)

    def save(self, path: str | Path) -> None:
        """Write the set as one safetensors file, atomically.

        Args:
            path: file to write.

        Raises:
            OSError: the file cannot be written; an earlier one is kept.
        """
        columns = {"pixels": self.pixels, "targets": self.targets, "logits": self.logits}
        card = self.card.model_copy(update={"shards": 1})
        write_shard(Path(path), card, {name: torch.cat(parts) for name, parts in columns.items() if parts})

    @property
    def nbytes(self) -> int:
        """Size of all pixels, bytes."""
        return sum(part.nbytes for part in self.pixels)

    def take(self, rows: Tensor) -> Tensor:
        """Read some of the images, and no others, from disk.

        Args:
            rows: indices of the images [n], int64, on the CPU.

        Returns:
            Their pixels [n, C, H, W], in the order of `rows`.
        """
        out = torch.empty(len(rows), *self.pixels[0].shape[1:], dtype=self.pixels[0].dtype)
        first = 0
        for part in self.pixels:
            here = (rows >= first) & (rows < first + len(part))
            out[here] = part[rows[here] - first]
            first += len(part)
        return out


def noise_set(inputs: InputSpec, n: int, seed: int) -> TransferSet:
    """`n` images of standard normal noise in network units, as pixels: the baseline that every method must beat."""
    x = torch.randn(n, *inputs.shape, generator=torch.Generator().manual_seed(seed))
    card = SetCard(inputs=inputs, provenance="none", made={"method": "noise", "seed": seed})
    return TransferSet(card, (inputs.to_pixels(x),))


def write_shard(path: Path, card: SetCard, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors `pixels`, and if given `targets` and `logits`, as one file, atomically."""
    ready = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    label = {_LABEL: card.model_dump_json()}
    replace_atomically(path, lambda temporary: save_file(ready, temporary, metadata=label), parents=True)


def shard_path(path: Path, shard: int, shards: int) -> Path:
    """File of shard `shard`, from 1, of `shards`: `set.safetensors` if there is one, else `set-00003-of-00016.safetensors`."""
    return path if shards == 1 else path.with_name(f"{path.stem}-{shard:05}-of-{shards:05}{path.suffix}")


def is_set(path: Path) -> bool:
    """Whether `path` names a transfer set, in one file or in shards."""
    file = next(iter([path] if path.exists() else _shard_files(path)), path)
    return file.is_file() and file.suffix == ".safetensors" and metadata_entry(file, _LABEL) is not None


def read_set(path: Path) -> TransferSet:
    """Read a transfer set from its file; a set in shards from their common name or from any of its shards.

    A set is one thing: all of it is checked before it is returned. Raises `ValueError` if a file is missing, cut short or not
    a transfer set, or if the files do not fit their card or each other: settings, shapes, types, counts or classes.
    """
    files = [path] if path.is_file() else _shard_files(path)
    if not files:
        raise ValueError(f"{path} does not exist; name a transfer set, an .npz or an image folder.")
    card = read_set_card(files[0])
    if card.shards > 1 or len(files) > 1:
        files = _all_shards(files[0], card.shards, files)
    if foreign := [file.name for file in files[1:] if read_set_card(file) != card]:
        raise ValueError(f"{foreign[0]} is a shard of another set than {files[0].name}; make both with the same settings.")
    found = read_files_of(card, files)
    if card.made.get("n", len(found)) != len(found):
        raise ValueError(f"{path} holds {len(found)} images, and its card says {card.made['n']}; make the set again.")
    return found


def read_shard(file: Path) -> TransferSet:
    """Read one file of a set, without its other shards. Raises `ValueError` as `read_set` does."""
    return read_files_of(read_set_card(file), [file])


def read_set_card(path: Path) -> SetCard:
    """The card of one shard. Raises `ValueError` if the file has no valid one."""
    if (kind := file_type(path)) in DESCRIPTIONS:
        raise ValueError(f"{path} is {DESCRIPTIONS[kind][0]}, not a transfer set; give one that `datafree synthesize` wrote.")
    label = metadata_entry(path, _LABEL)
    if label is None or len(label) > MAX_CARD:
        raise ValueError(f"{path} is not a transfer set: it has no valid card; make one with datafree synthesize.")
    try:
        return SetCard.model_validate_json(label)
    except ValidationError as error:
        raise ValueError(f"The card of {path} is not valid: {explain(error)} Make the set again.") from error


def _all_shards(first: Path, shards: int, seen: list[Path]) -> list[Path]:
    """The files of all `shards` shards of the set of which `first` is one. `seen` are the files that its name stands for."""
    common = _common_name(first)
    there = {file.name for file in _shard_files(common)}
    files = [shard_path(common, shard, shards) for shard in range(1, shards + 1)]
    if missing := [file.name for file in files if file.name not in there]:
        raise ValueError(f"{len(missing)} of {shards} shards are missing, {missing[0]} first; make them too.")
    if strange := [file.name for file in seen if file not in files]:
        raise ValueError(f"{strange[0]} is not among the {shards} shards of {common}; move it away, or name one of the shards.")
    return files


def read_files_of(card: SetCard, files: list[Path]) -> TransferSet:
    """The images of `files`, which need no card of their own, as parts of one set. Raises `ValueError` as `read_set` does."""
    parts = [_read_tensors(file, card) for file in files]
    for file, part in zip(files[1:], parts[1:], strict=True):
        first, here = layout(parts[0]), layout(part)
        if first != here:
            raise ValueError(
                f"{file.name} holds {', '.join(here)} and {files[0].name} {', '.join(first)}, which are no shards of one set; "
                "make them with the same settings."
            )
    columns = {name: tuple(part[name] for part in parts if name in part) for name in COLUMNS}
    return TransferSet(card, **columns, path=files[0])


def _read_tensors(path: Path, card: SetCard) -> dict[str, Tensor]:
    """The tensors of one shard, which fit each other and `card`. Raises `ValueError` if they do not."""
    with opened_safetensors(path) as (_, read):
        tensors = {name: value for name, value in read().items() if name in COLUMNS}
    if wrong := mismatch(tensors, card.inputs, card.made):
        raise ValueError(f"{path} is not a transfer set: {wrong}; make it again.")
    return tensors


def _common_name(path: Path) -> Path:  # set.safetensors for set-00003-of-00016.safetensors
    return path.with_name(re.sub(r"-\d{5}-of-\d{5}$", "", path.stem) + path.suffix)


def _shard_files(path: Path) -> list[Path]:
    """The existing shards of the set with the common name `path`."""
    if not path.name or not path.parent.is_dir():
        return []
    name = re.compile(rf"{re.escape(path.stem)}-\d{{5}}-of-\d{{5}}{re.escape(path.suffix)}")
    return sorted(file for file in path.parent.iterdir() if name.fullmatch(file.name) and file.is_file())


def as_uint8(pixels: Tensor) -> Tensor:
    """Pixels, uint8 or float in [0, 1], as uint8, rounded and clipped."""
    if pixels.dtype == torch.uint8:
        return pixels
    return (pixels.float() * 255).round_().clamp_(0, 255).to(torch.uint8)


def spread(size: int, n: int) -> Tensor:
    """Up to `n` indices, int64, spread evenly over 0..`size` - 1."""
    return torch.linspace(0, size - 1, min(n, size)).round().long()
