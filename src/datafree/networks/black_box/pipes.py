"""The three pipes of a program that is asked again and again: none of them may block, and each question has a time."""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence

CHUNK = 2**16  # bytes that are read or written at once
TAIL = 2000  # last bytes of standard error that are kept
QUOTED = 300  # of them in an error
GRACE = 5.0  # seconds that a program has to end after its standard input is closed, and again after SIGTERM


class Ended(Exception):
    """The program closed its standard output, or its standard input."""


class Slow(Exception):
    """The time for an answer is over."""


class Pipes:
    """A running program, in a session of its own, so that Ctrl-C reaches only this process, which then ends it.

    Raises `OSError` if it cannot be started.
    """

    def __init__(self, words: Sequence[str]):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True)
        streams = (self.process.stdin, self.process.stdout, self.process.stderr)
        self._in, self._out, self._errors = (stream.fileno() for stream in streams if stream)
        for each in (self._in, self._out, self._errors):
            os.set_blocking(each, False)
        self._open = {self._out, self._errors}
        self._answer, self._said = bytearray(), bytearray()
        self._deadline = 0.0

    def write(self, data: bytes, seconds: float) -> None:
        """Write a question; the answer must be read within so many seconds. Raises `Ended` or `Slow`."""
        self._deadline = time.monotonic() + seconds
        rest = memoryview(data)
        while rest:
            if self._wait(writing=True):
                try:
                    rest = rest[os.write(self._in, rest[:CHUNK]) :]
                except BrokenPipeError as error:
                    raise Ended from error
            if self._out not in self._open:
                raise Ended

    def read(self, size: int) -> bytes:
        """The next `size` bytes of the answer. Raises `Ended` or `Slow`."""
        while len(self._answer) < size:
            if self._out not in self._open:
                raise Ended
            self._wait()
        found = bytes(self._answer[:size])
        del self._answer[:size]
        return found

    def status(self) -> str:
        """How the program ended, as ` with status 3`; empty if it has not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        code = self.process.returncode
        if code is None:
            return " its output"  # it closed that, and goes on
        return f" by {signal.Signals(-code).name}" if code < 0 else f" with status {code}"

    def last_words(self) -> str:
        """The last line with a letter that the program wrote on standard error, as of a traceback the message."""
        self._deadline = time.monotonic() + 1.0
        with contextlib.suppress(Slow):
            while self.process.poll() is not None and self._errors in self._open:
                self._wait()
        lines = [line.strip() for line in self._said.decode("utf-8", "replace").splitlines()]
        return next((line[-QUOTED:].rstrip(".") for line in reversed(lines) if any(map(str.isalpha, line))), "")

    def _wait(self, writing: bool = False) -> bool:
        """Take what has been written, once there is something; True if the program takes more of the question."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Slow
        waiting = select.poll()
        for each in self._open:
            waiting.register(each, select.POLLIN)
        if writing:
            waiting.register(self._in, select.POLLOUT)
        ready = [number for number, _ in waiting.poll(1000 * left)]
        for each in self._open.intersection(ready):
            found = os.read(each, CHUNK)
            if not found:
                self._open.discard(each)
            elif each == self._out:
                self._answer += found
            else:
                self._said = (self._said + found)[-TAIL:]
        return self._in in ready

    def end(self, grace: float = GRACE) -> None:
        """Close its standard input, which ends it; what still runs after `grace` seconds is terminated, then killed."""
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        for wait, number in ((grace, signal.SIGTERM), (GRACE, signal.SIGKILL)):
            try:
                self.process.wait(wait)
                break
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.process.pid, number)
        self.process.wait()
