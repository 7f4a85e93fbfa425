"""Atomic writes, safetensors files with their metadata, and hashes of files."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from datafree.core.filetypes import DESCRIPTIONS, file_type
from datafree.core.settings import first_line
from datafree.core.shortages import advice

MAX_CARD = 64 * 2**10  # largest card in the metadata of a file, bytes of JSON
MOST_HEADER = 2**22  # bytes of a safetensors header
MOST_TENSORS = 2**14  # in a safetensors file; the reader takes a tenth of a millisecond for each, empty ones too


def replace_atomically(path: Path, write: Callable[[Path], object], parents: bool = False) -> None:
    """Write a temporary file beside `path` with `write`, flush it to the disk, then rename it to `path`.

    A kill at any moment leaves the old file or the new one. With `parents` missing folders are made; without it a folder that
    somebody deleted does not come back. A link at `path` is replaced, not written through. Raises `OSError` if `path` is a
    device, a pipe or a folder, and if writing fails, on a full disk for example: the temporary file is then removed and the old
    file stays.
    """
    refuse_no_file(path)
    temporary = temporary_of(path)
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # others may have put a link there, through which `write` would write
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # safetensors creates files that only their owner can read
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError | RuntimeError | SafetensorError):  # each writer reports a full disk in its own way
            raise OSError(_why(path, error)) from error
        raise


def refuse_no_file(path: Path) -> None:
    """Raise `OSError` if `path` is, or is a link to, what a new file must not replace: a device, a pipe or a folder."""
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - pathlib's raise where no permission is
        raise OSError(f"{path} is no regular file, and is not replaced by one; name a new file.")


def _why(path: Path, error: Exception) -> str:
    """The sentence for `error`, on which writing `path` failed."""
    short = advice(error)
    if not short and not path.parent.is_dir():
        return (
            f"{path.name} cannot be written, since the folder {path.parent} does not exist or was deleted meanwhile "
            f"({first_line(error)}); run the same command again to begin anew."
        )
    disk = next(folder for folder in path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(disk).free / 2**20
    return (
        f"Writing {path} failed ({first_line(error)}; {free:.1f} MiB are free on that disk). The earlier file is kept; "
        f"{short or 'free some space or name another folder'}, then run the same command again."
    )


def temporary_of(path: Path) -> Path:
    """Name under which `path` is written; only a killed write leaves such a file."""
    return path.with_name(f".{path.name}.writing")


def is_temporary(path: Path) -> bool:
    """Whether `path` has a name that `temporary_of` gives."""
    return path.name.startswith(".") and path.name.endswith(".writing")


def remove_leftovers(*folders: Path) -> None:
    """Delete what killed writes left in `folders`, in which nobody else may be writing."""
    for folder in folders:
        for path in filter(is_temporary, folder.iterdir() if folder.is_dir() else ()):
            path.unlink()


@contextlib.contextmanager
def path_or_temporary(path: str | Path | None, name: str) -> Iterator[Path]:
    """`path`, or without one a path that ends in `name`, in a folder that is deleted afterwards."""
    if path is not None:
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="datafree-") as folder:
        yield Path(folder) / name


def write_text(path: Path, text: str, parents: bool = False) -> None:
    """Write `text` to `path` as UTF-8, as `replace_atomically` does."""

    def write(temporary: Path) -> None:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)

    replace_atomically(path, write, parents)


def remove(path: Path) -> None:
    """Delete a file, or a folder with all that is in it, if it is there; of a link only the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def opened_safetensors(path: Path) -> Iterator[tuple[dict[str, str], Callable[[], dict[str, Tensor]]]]:
    """Metadata of a safetensors file (`{}` if it has none) and a function that reads all its tensors; parses the header once.

    Raises `ValueError` if the file is not a safetensors file, is cut short, or lists more tensors than any network here has.
    """
    _check_header(path)
    with contextlib.ExitStack() as stack:
        with _readable(path):
            file = stack.enter_context(safe_open(path, "pt"))
            metadata = file.metadata() or {}

        def read() -> dict[str, Tensor]:
            with _readable(path):
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is not a dict

        yield metadata, read


def _check_header(path: Path) -> None:
    """Raise `ValueError` for a file whose header takes long to read; what else is wrong with it the reader finds."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file; name a safetensors file.")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(min(length, MOST_HEADER))
    if not header.startswith(b"{"):  # before the reader maps the whole file into memory
        if (kind := file_type(path)) in DESCRIPTIONS:
            what, advice = DESCRIPTIONS[kind]
            raise ValueError(f"{path} is {what}, not a safetensors file; {advice}.")
        raise ValueError(f"{path} is not a safetensors file, or is cut short (it has no header); copy or make it again.")
    tensors = header.count(b"{") - 1  # at most: names and metadata may hold this sign too
    if tensors > MOST_TENSORS or (length > MOST_HEADER and 8 + length <= path.stat().st_size):
        raise ValueError(
            f"{path} has a header of {length:,} bytes that lists about {tensors:,} tensors, and up to {MOST_HEADER:,} and "
            f"{MOST_TENSORS:,} are read; make the file again with the tensors of one network or set."
        )


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Inside, whatever the reader of safetensors raises becomes `ValueError`: a header that lies makes it raise several."""
    try:
        yield
    except FileNotFoundError:
        path.open("rb").close()  # safetensors reports every failure to open a file as this one; Python knows which it was
        raise
    except (OSError, MemoryError):
        raise
    except Exception as error:
        if os.strerror(errno.ENOMEM) in str(error):  # the file may be whole
            raise MemoryError(str(error)) from error
        raise ValueError(
            f"{path} is not a safetensors file, or is cut short ({first_line(error)}); copy or make it again."
        ) from error


def metadata_entry(path: Path, name: str) -> str | None:
    """Entry `name` of a safetensors file's metadata, or None. Raises `ValueError` as `opened_safetensors` does."""
    with opened_safetensors(path) as (metadata, _):
        return metadata.get(name)


def path_fingerprint(path: Path) -> str:
    """SHA-256 of a file's bytes, or of the names and sizes of a folder's files; `absent` if `path` does not exist."""
    if path.is_file():
        return sha256(path)
    if not path.is_dir():
        return "absent"
    listing = sorted((str(p.relative_to(path)), p.stat().st_size) for p in path.rglob("*") if p.is_file())
    return hashlib.sha256(repr(listing).encode()).hexdigest()
