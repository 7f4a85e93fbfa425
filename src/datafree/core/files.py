"""Files that are whole or not there: atomic writes, safetensors with their metadata, hashes."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from datafree.core.settings import first_line

MAX_CARD = 64 * 2**10  # bytes of a card's JSON in a file's metadata


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
def path_or_temporary(path: str | Path | None, name: str) -> Iterator[Path]:
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


@contextlib.contextmanager
def opened_safetensors(path: Path) -> Iterator[tuple[dict[str, str], Callable[[], dict[str, Tensor]]]]:
    """Metadata of a safetensors file (empty where it has none), and what reads all its tensors; its header is parsed once.

    Raises `ValueError` where the file is none, or is cut short.
    """
    try:
        with safe_open(path, "pt") as file:

            def read() -> dict[str, Tensor]:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is not a dict

            yield file.metadata() or {}, read
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or is cut short ({first_line(error)}).") from error


def label_of(path: Path, name: str) -> str | None:
    """The metadata entry `name` of a safetensors file, None where it has none. Raises as `opened_safetensors`."""
    with opened_safetensors(path) as (metadata, _):
        return metadata.get(name)


def path_fingerprint(path: Path) -> str:
    """Hash of a file's bytes, or of the names and sizes of a folder's files. `absent` where there is nothing."""
    if path.is_file():
        return sha256(path)
    if not path.is_dir():
        return "absent"
    listing = sorted((str(p.relative_to(path)), p.stat().st_size) for p in path.rglob("*") if p.is_file())
    return hashlib.sha256(repr(listing).encode()).hexdigest()
