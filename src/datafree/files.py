"""Files that are whole or not there: atomic writes, bounded headers, hashes."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError

from datafree.settings import first_line

MAX_HEADER = 8 * 2**20  # bytes of a safetensors header; ten thousand tensors need under one MiB


def replace_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk, then rename it over `path`.

    A kill at any moment leaves the old file or the new one. On failure (a full disk, say) the temporary file is
    removed, the old file stays, and the error goes on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # safetensors writes for the owner alone
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError | RuntimeError | SafetensorError):  # each writer says "disk full" in its own way
            free = shutil.disk_usage(path.parent).free / 2**20
            raise OSError(
                f"Writing {path} failed ({first_line(error)}; {free:.1f} MiB are free there); what was there before is kept."
            ) from error
        raise


@contextlib.contextmanager
def kept_at(path: str | Path | None, name: str) -> Iterator[Path]:
    """`path`, or, where there is none, `name` in a folder that is thrown away."""
    if path is not None:
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="datafree-") as scratch:
        yield Path(scratch) / name


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def sha256(path: Path) -> str:
    """Hash of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def header_of(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, empty where it has none.

    Raises `ValueError` where the file is none, is cut short, or its header is larger than `MAX_HEADER`.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= MAX_HEADER:
            raise ValueError(f"{path} is not a safetensors file (header of {size} bytes, at most {MAX_HEADER}).")
        raw = file.read(size)
    try:
        header = json.loads(raw)
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        metadata = {str(key): str(value) for key, value in header.get("__metadata__", {}).items()}
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError) as error:
        raise ValueError(f"{path} is not a safetensors file, or is cut short ({error}).") from error
    if path.stat().st_size < 8 + size + end:
        raise ValueError(f"{path} is cut short: {path.stat().st_size} bytes of {8 + size + end}; copy it again.")
    return metadata
