"""Out of memory, which every library reports in its own way, as one sentence."""

import contextlib
import re
from collections.abc import Iterator

import torch

_SIGNS = ("out of memory", "can't allocate memory", "std::bad_alloc", "unable to allocate", "could not create a memory object")


def asked_memory(error: BaseException) -> str | None:
    """How much memory was asked for, as `: 2.0 GiB were asked for`, empty if unknown; None for any other failure."""
    text = str(error)
    if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(sign in text.lower() for sign in _SIGNS):
        return None
    if found := re.search(r"allocate ([\d.]+) (bytes|[KMGT]i?B)", text):
        amount, unit = found.groups()
        return f": {float(amount) / 2**30:.1f} GiB were asked for" if unit == "bytes" else f": {amount} {unit} were asked for"
    return ""


@contextlib.contextmanager
def memory_explained(advice: str) -> Iterator[None]:
    """Inside, a failure for lack of memory becomes a `MemoryError` that says how much was asked for, and `advice`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if (asked := asked_memory(error)) is None:
            raise
        raise MemoryError(f"The memory is full{asked}; {advice}.") from error
