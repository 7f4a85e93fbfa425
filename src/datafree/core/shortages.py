"""Shortages of disk, memory, files, threads and permission: recognised in errors, with what to do about each."""

import errno
import os
import re

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or name another folder",
    errno.EDQUOT: "your share of that disk is used up; free some space or name another folder",
    errno.EFBIG: "files may not grow that large here; raise the limit (ulimit -f) or name another folder",
    errno.EACCES: "you have no permission for that; change it or name another folder",
    errno.EPERM: "you have no permission for that; change it or name another folder",
    errno.EROFS: "that disk is read-only; name another folder",
    errno.EMFILE: "this process may not open more files; raise the limit (ulimit -n 1024)",
    errno.ENFILE: "this machine may not open more files; end something else",
    errno.ENOMEM: "memory ran out; end something else or raise the limit (ulimit -v)",
}
_NO_THREAD = "can't start new thread"  # Python's message, where memory or the number of processes is limited
# Allocators report a lack of memory as a RuntimeError with these texts: torch's on a CPU, C++'s, the system's, and oneDNN's.
_NO_MEMORY = re.compile(r"can't allocate memory|std::bad_alloc|Cannot allocate memory|^could not create a primitive$")
_AMOUNT = re.compile(r"allocate ([\d.,]*\d)\.? ?(bytes|[KMGT]i?B)")


def advice(error: BaseException) -> str | None:
    """What is short and what to do, as a part of a sentence, if `error` has the number or the message of a shortage."""
    if isinstance(error, OSError) and error.errno is not None:
        return _ADVICE.get(error.errno)
    # torch and safetensors write the system's message into their own.
    return next((what for number, what in _ADVICE.items() if os.strerror(number) in str(error)), None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` reports that memory, or a thread, could not be had."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, which is not loaded here
        return True
    return isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error)) or _NO_THREAD in str(error))


def explain_shortage(error: BaseException, settings: str, smaller: str | None = None) -> str | None:
    """`error` as one sentence if it reports a shortage, else None.

    Where memory ran out, `settings` are those to lower in a run; a verb that keeps nothing says what to do in `smaller`.
    """
    if is_out_of_memory(error):
        return _explain_memory(str(error), settings, smaller)
    if isinstance(error, OSError) and error.errno is None:  # it has its sentence already
        return None
    if what := advice(error):
        where = error.filename if isinstance(error, OSError) and error.filename else "A file could not be read or written"
        return f"{where}: {what}, then run the same command again ({error})."
    return None


def _explain_memory(message: str, settings: str, smaller: str | None) -> str:
    """How much was asked for, as far as the message says so, and what to lower."""
    if _NO_THREAD in message:
        return (
            "No thread could be started: memory (ulimit -v) or the number of processes (ulimit -u) is limited here; raise the "
            "limit, then run the same command again."
        )
    found = _AMOUNT.search(message)
    asked = f"{_in_units(found[1], found[2])} more were asked for" if found else "how much was asked for is not known"
    if smaller:
        return f"Memory ran out ({asked}): free some and run the same command again, or {smaller}."
    return (
        f"Memory ran out ({asked}). What was saved is kept: free some memory and run the same command again, or start anew in "
        f"another folder with a lower {settings}."
    )


def _in_units(amount: str, unit: str) -> str:
    """The amount as it was reported, bytes as MiB."""
    return f"{float(amount.replace(',', '')) / 2**20:,.1f} MiB" if unit == "bytes" else f"{amount} {unit}"
