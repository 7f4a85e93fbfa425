"""Ctrl-C and SIGTERM as a request to stop, so that a run can finish its round and save first, and all else can clean up."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

STOPPED = "Stopped; the same command goes on from what was saved."


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop (Ctrl-C, SIGTERM), and has saved a checkpoint."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came outside a loop that could have saved."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM raises `Terminated`, as Ctrl-C raises `KeyboardInterrupt`; a second SIGTERM ends the process.

    While a module is being imported, either ends the process at once, after a sentence: extensions swallow what is raised then.
    """
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if threading.current_thread() is not threading.main_thread():
        defaults = {}
    before = {number: default for number, default in defaults.items() if signal.getsignal(number) == default}

    def end(number: int, frame: FrameType | None) -> None:
        if _importing(frame):
            os.write(2, f"datafree: {STOPPED}\n".encode())
            os._exit(128 + number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)
        raise Terminated

    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, default in before.items():
            signal.signal(number, default)


def _importing(frame: FrameType | None) -> bool:
    """Whether Python's machinery of imports is at work in `frame` or in one that called it."""
    while frame and "importlib._bootstrap" not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None


@contextlib.contextmanager
def stoppable() -> Iterator[threading.Event]:
    """Inside, the first Ctrl-C or SIGTERM only sets the event, and the second stops the process at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def request_stop(number: int, frame: object) -> None:
        stop.set()
        for each in signals:
            signal.signal(each, before[each] or signal.SIG_DFL)

    for number in signals:
        signal.signal(number, request_stop)
    try:
        yield stop
    finally:
        for number in signals:
            signal.signal(number, before[number] or signal.SIG_DFL)
