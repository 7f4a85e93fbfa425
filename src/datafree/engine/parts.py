"""The folder FILE.parts, in which the work that makes a file is kept until the file is whole."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datafree.core.files import temporary_of
from datafree.engine.folder import RunDir


@contextlib.contextmanager
def parts_of(file: Path, identity: Mapping[str, Any]) -> Iterator[RunDir]:
    """The folder of the work `identity` that makes `file`, deleted at the end of the block, when `file` is whole.

    It is also deleted where the settings or the data turn out wrong before anything was made, since it would refuse the
    corrected line. Raises `ValueError` as `RunDir` does.
    """
    with RunDir(parts_beside(file), identity) as run:
        run.write({"status": "running"})
        try:
            yield run
        except (ValueError, FloatingPointError):
            if run.untouched:
                run.remove()
            raise
        run.remove()


def remove_parts(file: Path, identity: Mapping[str, Any]) -> None:
    """Delete what a kill left beside the finished `file`, if it belongs to the work `identity` and no process is at it."""
    temporary_of(file).unlink(missing_ok=True)
    if parts_beside(file).exists():
        with contextlib.suppress(ValueError), RunDir(parts_beside(file), identity) as run:
            run.remove()


def digest(identity: Mapping[str, Any]) -> str:
    """SHA-256 of the identity of a work, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def parts_beside(file: Path) -> Path:
    """The folder in which the work that makes `file` is kept until it is done."""
    return file.with_name(f"{file.name}.parts")
