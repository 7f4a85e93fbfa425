"""Archives of `torch.export.save`, read without their code: the graph as JSON, the weights as plain numbers."""

import errno
import json
import math
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datafree.core.files import MOST_TENSORS
from datafree.core.pickles import read_torch
from datafree.core.settings import first_line
from datafree.networks.programs.graph import MOST_TEXT

# As torch numbers the types of numbers in these files.
SCALAR_TYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_OLD_GRAPH, _OLD_WEIGHTS = "serialized_exported_program.json", ("serialized_state_dict.pt", "serialized_constants.pt")
_SPREAD = 2**24  # values that a view with a stride of 0 may have beyond those in the file


class Archive:
    """The entries of a zip file that torch wrote: `graph` as parsed JSON, `weights` with the constants, by name.

    Raises `ValueError`, a sentence's middle, if it is no such archive, or calls for code or memory.
    """

    def __init__(self, path: Path):
        with _opened(path) as (packed, names):
            root = _root(names)
            if _OLD_GRAPH in names:
                self.graph = _json(packed, _OLD_GRAPH)
                self.weights = {key: each for name in _OLD_WEIGHTS if name in names for key, each in _pickled(packed, name)}
                return
            models = [name for name in names if name.startswith(f"{root}models/") and name.endswith(".json")]
            if len(models) != 1:
                compiled = any("/aotinductor/" in name for name in names)
                what = "compiled code for one machine" if compiled else f"{len(models)} exported programs"
                raise ValueError(f"holds {what}; give one program that torch.export.save wrote")
            model = Path(models[0]).stem
            self.graph = _json(packed, models[0])
            self.weights = {}
            for folder, kind in (("weights", "weights"), ("constants", "constants")):
                self.weights |= dict(_numbers(packed, names, f"{root}data/{folder}/", model, kind))


def is_exported(path: Path) -> bool:
    """Whether a file is an archive that `torch.export.save` wrote, by the names of its entries."""
    try:
        with zipfile.ZipFile(path) as packed:
            names = packed.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    models = f"{_root(set(names))}models/"  # TorchScript of a package has a folder `models` too, deeper within
    return _OLD_GRAPH in names or any(name.endswith("archive_format") or name.startswith(models) for name in names)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, set[str]]]:
    """The archive and the names in it; whatever its bytes make the reader raise becomes `ValueError`."""
    try:
        with zipfile.ZipFile(path) as packed:
            entries = packed.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ValueError("is compressed, which torch does not do; export the network again")
            if len(entries) > MOST_TENSORS or sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise ValueError("says that it holds more than its size; export the network again")
            yield packed, {entry.filename for entry in entries}
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place in the file that is none
            raise
        raise ValueError("is not an archive of torch.export.save, or is cut short; make it again") from error
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"is not an archive of torch.export.save, or is cut short ({first_line(error)}); make it again"
        ) from error


def _root(names: set[str]) -> str:
    """The folder that all entries lie in, with its slash."""
    first = min(names, default="").partition("/")[0] + "/"
    return first if all(name.startswith(first) for name in names) else ""


def _json(packed: zipfile.ZipFile, name: str) -> Any:
    if packed.getinfo(name).file_size > MOST_TEXT:
        raise ValueError(f"has a graph of {packed.getinfo(name).file_size / 2**20:,.0f} MiB, beyond {MOST_TEXT / 2**20:,.0f}")
    try:
        return json.loads(packed.read(name))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"has no JSON in {name} ({first_line(error)}); export the network again") from error


def _pickled(packed: zipfile.ZipFile, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors that an entry holds as a file of `torch.save` of its own, by the reader that runs no code."""
    with tempfile.TemporaryDirectory(prefix="datafree-") as folder:
        inner = Path(folder) / "entry.pt"
        inner.write_bytes(packed.read(name))
        try:
            found = read_torch(inner)
        except Exception as error:  # foreign bytes make torch's reader stumble in any way
            raise ValueError(
                f"holds {name}, which does not read as plain numbers ({first_line(error)}), and reading it otherwise would run "
                "its code; export the network again with a newer torch, or pack its weights"
            ) from error
    found = {"": found} if isinstance(found, Tensor) else found
    if not isinstance(found, dict):
        raise ValueError(f"holds {name}, which is no state dict; export the network again")
    for key, value in found.items():
        if isinstance(key, str) and isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu":
            yield key, value.detach()


def _numbers(packed: zipfile.ZipFile, names: set[str], folder: str, model: str, kind: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors that a folder of the archive holds as raw numbers, by name."""
    if f"{folder}{model}.pt" in names:
        yield from _pickled(packed, f"{folder}{model}.pt")
        return
    listing = f"{folder}{model}_{kind}_config.json"
    if listing not in names:
        raise ValueError(f"has no {listing}, as torch.export.save of torch 2.8 and later writes; export the network again")
    storages: dict[str, bytearray] = {}
    for name, entry in _json(packed, listing)["config"].items():
        at = f"{folder}{entry['path_name']}"
        if at not in names or "custom_obj" in at or "opaque_obj" in at:
            raise ValueError(f"holds an object {name[:80]!r} that is no tensor; export the network without it")
        if entry["use_pickle"]:
            yield from ((name, value) for _, value in _pickled(packed, at))
            continue
        if at not in storages:
            storages[at] = bytearray(packed.read(at))
        yield name, _tensor(name, storages[at], entry["tensor_meta"])


def _tensor(name: str, numbers: bytearray, described: Any) -> Tensor:
    """The view of raw `numbers` that a tensor's description asks for. Raises `ValueError` if they do not hold it."""
    kind = SCALAR_TYPES.get(described["dtype"])
    sizes, strides = ([each["as_int"] for each in described[key]] for key in ("sizes", "strides"))
    offset = described["storage_offset"]["as_int"]
    if kind is None or described["layout"] != 7:
        raise ValueError(f"holds {name[:80]!r} in a form that is not served; export the network in float32")
    natural = (
        all(isinstance(each, int) and each >= 0 for each in (*sizes, *strides, offset)) and len(sizes) == len(strides) < 64
    )
    held = len(numbers) // kind.itemsize
    if not natural or math.prod(sizes) > max(held, _SPREAD):
        raise ValueError(
            f"says that {name[:80]!r} has sizes {str(sizes)[:80]}, and holds {held:,} numbers of it; export it again"
        )
    end = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) + 1
    if not math.prod(sizes):
        return torch.zeros(sizes, dtype=kind)
    if end > held:
        raise ValueError(
            f"holds {held:,} numbers of {name[:80]!r}, which has {math.prod(sizes):,}; it is cut short, export it again"
        )
    flat = torch.frombuffer(numbers, dtype=kind)
    return torch.as_strided(flat, sizes, strides, offset).clone(memory_format=torch.contiguous_format)
