"""A teacher that is a program: batches as `.npy` on its standard input, logits as `.npy` on its standard output."""

import contextlib
import io
import os
import select
import shlex
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable
from typing import IO, Any, NoReturn

import numpy as np
from torch import Tensor

from datafree.core.settings import first_line
from datafree.networks.outputs import Refused

SECONDS = 300.0  # for one batch; the first one includes the start of the program
GRACE = 2.0  # seconds between the end of its input and SIGTERM, and from that to SIGKILL
MOST_CLASSES = 1_000_000
TAIL = 300  # characters of its errors that are shown


class Command:
    """A program that is started at the first question and answers until its input ends.

    For each batch it reads one `.npy` (numpy's format) with images [B, C, H, W], float32, network units, from its standard
    input, and writes one with logits [B, classes], floats, to its standard output, which it flushes. It needs no torch.

    Args:
        line: the command, as a shell would split it; no shell runs it.
        seconds: for an answer, at most.

    Raises:
        ValueError: at a question: the program cannot be started, ends, is silent for too long or writes something else.
    """

    def __init__(self, line: str, seconds: float = SECONDS):
        self.words, self.seconds = shlex.split(line), seconds
        if not self.words:
            raise ValueError("The teacher's command is empty; pass a program that reads and writes .npy.")
        self.process: subprocess.Popen[bytes] | None = None
        self.errors: IO[bytes] | None = None

    def __call__(self, images: Tensor) -> np.ndarray[Any, Any]:
        """Logits [B, classes] of images [B, C, H, W]."""
        process = self.process or self._start()
        until = time.monotonic() + self.seconds
        asked = io.BytesIO()
        np.lib.format.write_array(asked, images.numpy(), allow_pickle=False)
        try:
            _write(process, asked.getbuffer(), until)
            return _read(_Pipe(process, until), len(images))
        except TimeoutError as error:
            self._fail(f"gave no answer to {len(images)} images within {self.seconds:.0f} s", "see why it waits", error)
        except EOFError as error:
            self._fail(f"ended {self._status()}", "see what it writes above", error)
        except ValueError as error:
            what = f"wrote something else than logits ({first_line(error)})"
            self._fail(what, "write one .npy [B, classes] a batch, and nothing else", error)

    def _start(self) -> subprocess.Popen[bytes]:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        try:
            # A session of its own: Ctrl-C stops the run, which then still needs its teacher for the round that it ends.
            process = subprocess.Popen(
                self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, bufsize=0, start_new_session=True
            )
        except OSError as error:
            self.errors.close()
            raise Refused(
                f"The teacher's command {self.words[0]!r} cannot be started ({first_line(error)}); check its path."
            ) from error
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self.process = process
        weakref.finalize(self, _end, process, self.errors)  # at the end of this process at the latest
        return process

    def _status(self) -> str:
        assert self.process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f"with status {self.process.wait(GRACE)}"
        return "its output"

    def _fail(self, what: str, advice: str, error: Exception) -> NoReturn:
        """Raise `Refused` with what the program did, what it wrote to its standard error, and what to do."""
        assert self.process is not None
        assert self.errors is not None
        _end(self.process)
        self.process = None
        self.errors.seek(0)
        written = self.errors.read().decode("utf-8", "replace").strip()
        self.errors.close()
        told = f": {' '.join(written[-TAIL:].split())}" if written else ", without a word on its standard error"
        raise Refused(f"The teacher's command {self.words[0]!r} {what}{told}; {advice}.") from error


class _Pipe:
    """The output of a program as a file that can only be read, until a moment: numpy would take a real file for one on disk."""

    def __init__(self, process: subprocess.Popen[bytes], until: float):
        assert process.stdout is not None
        self.number, self.until = process.stdout.fileno(), until

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises `EOFError` if the program ends before, `TimeoutError` if it takes too long."""
        parts, missing = [], size
        while missing:
            ready, _, _ = select.select([self.number], [], [], max(0.0, self.until - time.monotonic()))
            if not ready:
                raise TimeoutError
            part = os.read(self.number, min(missing, 2**20))
            if not part:
                raise EOFError
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def _write(process: subprocess.Popen[bytes], content: memoryview, until: float) -> None:
    """Write all of `content`. Raises as `_Pipe.read` does."""
    assert process.stdin is not None
    done = 0
    while done < len(content):
        _, ready, _ = select.select([], [process.stdin], [], max(0.0, until - time.monotonic()))
        if not ready:
            raise TimeoutError
        try:
            done += os.write(process.stdin.fileno(), content[done : done + 2**20])
        except BrokenPipeError as error:
            raise EOFError from error


def _read(pipe: _Pipe, images: int) -> np.ndarray[Any, Any]:
    """One array [images, classes] of floats. Raises `ValueError` for anything else, before its numbers are read."""
    headers: dict[tuple[int, int], Callable[..., Any]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(pipe)  # type: ignore[arg-type]
    if version not in headers:
        raise ValueError(f"a .npy of version {version}")
    shape, fortran, kind = headers[version](pipe)
    if kind.kind != "f" or len(shape) != 2 or shape[0] != images or not 2 <= shape[1] <= MOST_CLASSES:
        raise ValueError(f"an array {list(shape)} of {kind} for {images} images")
    found = np.frombuffer(pipe.read(images * shape[1] * kind.itemsize), dtype=kind)
    return found.reshape(shape, order="F" if fortran else "C").astype(np.float32)


def _end(process: subprocess.Popen[bytes], errors: IO[bytes] | None = None) -> None:
    """End a program: by the end of its input, then by SIGTERM, then by SIGKILL; and close the file of its errors, if given."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    for stop in (process.terminate, process.kill):
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            stop()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    if errors:
        errors.close()
