"""Ctrl-C and SIGTERM as a request to stop, so that a run can finish its round and save first."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop (Ctrl-C, SIGTERM), and has saved a checkpoint."""


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
