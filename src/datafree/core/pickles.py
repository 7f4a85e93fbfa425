"""Files of `torch.save`, read without their code, and without what would take memory by a number in the file."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datafree.core.pickle_walk import Quantised, Walked, walk
from datafree.core.stand_ins import StandIn, is_foreign, is_of_others, is_of_python, stand_in

__all__ = ["Found", "Protocol", "Quantised", "StandIn", "read_foreign", "read_torch", "root_class"]

_LEGACY = 5  # pickles at the start of a file of the form before torch 1.6, of which torch may run each
_MOST_PICKLED = 2**28  # bytes of the pickle in an archive, which has no numbers of tensors in it
_MOST_FOREIGN = 2**8  # names of classes of others in a file; torch's reader looks at all for each that it meets
_DUMPED = "torch.storage._load_from_bytes"  # by which a pickle that torch.save did not write makes its tensors
_TORCH_PROTOCOL = 2  # of pickles that torch's reader takes


class Protocol(ValueError):
    """A pickle has a protocol that torch's reader does not take."""


@dataclass(frozen=True)
class Found:
    """What a file of `torch.save` holds, with stand-ins for objects of others, and the names of their classes.

    Classes of Python, numpy and torch are not among them.
    """

    value: Any
    foreign: tuple[str, ...]


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU, read with `weights_only=True`.

    Raises `ValueError` for an archive that unpacks to more than its own size, as torch never writes one, `Quantised` and
    `pickle.UnpicklingError` for a pickle that calls something else than plain weights and values need, and else whatever
    torch's reader raises: foreign bytes make it stumble in any way.
    """
    for walked in _walked(path):
        if called := next(iter(walked.calls), None):
            raise pickle.UnpicklingError(f"it calls {called}, as no weights do")
    return _load(path, {})


def read_foreign(path: Path) -> Found:
    """As `read_torch`, with inert stand-ins for objects of others that lie beside the weights, as a Namespace of arguments.

    Nothing of a stand-in's class is imported or called. Raises as `read_torch` does, and also `pickle.UnpicklingError` for a
    name of Python or torch that is no such value, and `Protocol` for a pickle that torch's reader does not take.
    """
    pickles = _walked(path)
    if any(_DUMPED in walked.calls for walked in pickles):
        raise pickle.UnpicklingError("it was written by pickle.dump, not by torch.save")
    names = {name for walked in pickles for name in walked.names if is_foreign(name)}
    for walked in pickles:
        if called := next((name for name in walked.calls if name not in names), None):
            raise pickle.UnpicklingError(f"it calls {called}")
        if named := next((name for name in walked.names if is_of_python(name) and name not in names), None):
            raise pickle.UnpicklingError(f"it contains {named}")
    if protocol := next((walked.protocol for walked in pickles if walked.protocol > _TORCH_PROTOCOL), None):
        raise Protocol(f"its pickle has protocol {protocol}, and torch's reader without code takes {_TORCH_PROTOCOL}")
    if len(names) > _MOST_FOREIGN:
        raise pickle.UnpicklingError(f"it contains {len(names):,} classes of others, {min(names)} first")
    filled = {name: kind for walked in pickles for name, kind in walked.filled.items()}
    return Found(
        _load(path, {name: stand_in(name, filled.get(name)) for name in names}),
        tuple(sorted(name for name in names if is_of_others(name))),
    )


def root_class(path: Path) -> str | None:
    """The class of others of the object that the file is, as `shop.Net`; None if it is a value, or spoilt."""
    try:
        root = _walked(path)[0].root
    except Exception:  # noqa: BLE001 - foreign bytes make the walk stumble in any way
        return None
    return root if root and is_foreign(root) else None


def _load(path: Path, names: Mapping[str, type]) -> Any:
    with warnings.catch_warnings(), torch.serialization.safe_globals([(each, name) for name, each in names.items()]):
        warnings.simplefilter("ignore")  # of old forms and rare tensors, which the caller accepts or refuses by itself
        return torch.load(path, map_location="cpu", weights_only=True)


def _walked(path: Path) -> list[Walked]:
    """Each pickle of the file, gone through without being run."""
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":  # as torch tells the forms apart
            return _walked_archive(path)
        file.seek(0)
        return [walk(file) for _ in range(_LEGACY) if file.tell() < path.stat().st_size]


def _walked_archive(path: Path) -> list[Walked]:
    found = []
    with zipfile.ZipFile(path) as packed:
        entries = packed.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed, which torch does not do")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("it says that it holds more than its size")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                if entry.file_size > _MOST_PICKLED:
                    raise ValueError(f"its {entry.filename} has {entry.file_size / 2**20:,.0f} MiB")
                with packed.open(entry) as file:
                    found.append(walk(file))
    return found
