"""One array after the other through a pipe, each in the form of a `.npy` file; read without pickles and within limits."""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np

MOST_BYTES = 2**28  # of one answer
MAGIC = b"\x93NUMPY\x01\x00"  # of version 1.0, whose header has 64 KiB at most; np.save writes it
SHOWN = 40  # bytes of what is no `.npy` that an error quotes

Array = np.ndarray[Any, Any]


class _Stream:
    """A pipe for numpy, which reads from real files by other means that a pipe has not."""

    def __init__(self, read: Callable[[int], bytes]):
        self._read = read

    def read(self, size: int = 0, /) -> bytes:
        return self._read(size)


def encoded(array: Array) -> bytes:
    """The bytes of the `.npy` file of `array`, C order, version 1.0."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def read_array(read: Callable[[int], bytes]) -> Array:
    """The array of the next `.npy` file in a pipe.

    Args:
        read: returns the given number of bytes, or raises.

    Returns:
        The array, of numbers, of its own shape and type.

    Raises:
        ValueError: a sentence's middle that begins with what was written: it is no `.npy`, of other things than numbers, or
            larger than `MOST_BYTES`.
    """
    start = read(len(MAGIC))
    if start != MAGIC:
        raise ValueError(
            f"{start[:SHOWN]!r} where a .npy file of version 1.0 should begin, as np.save writes it; it must write nothing "
            "else on standard output (print to standard error)"
        )
    try:
        shape, fortran, kind = np.lib.format.read_array_header_1_0(_Stream(read))
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError("a .npy file whose header does not read; write it with np.save") from error
    if kind.hasobject or kind.kind not in "fiub":
        raise ValueError(f"an array of type {str(kind)[:SHOWN]}; it must write numbers, as float32")
    size = math.prod(shape) * kind.itemsize
    if min(shape, default=0) < 0 or size > MOST_BYTES:
        raise ValueError(
            f"an array {list(shape)[:8]} of {size / 2**20:,.0f} MiB, more than {MOST_BYTES / 2**20:.0f}; ask it for fewer "
            "images at a time (--teacher-batch)"
        )
    numbers = np.frombuffer(read(size), dtype=kind)
    return numbers.reshape(shape, order="F" if fortran else "C")
