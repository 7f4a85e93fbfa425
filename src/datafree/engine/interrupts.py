"""Ctrl-C and SIGTERM as a request, so that what is under way is finished and saved first."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop (Ctrl-C, SIGTERM) and saved itself first."""


@contextlib.contextmanager
def stoppable() -> Iterator[threading.Event]:
    """Inside, the first Ctrl-C or SIGTERM sets the event, so that the round is finished and saved; the second acts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def ask(number: int, frame: object) -> None:
        stop.set()
        for each in signals:
            signal.signal(each, before[each] or signal.SIG_DFL)

    for number in signals:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number in signals:
            signal.signal(number, before[number] or signal.SIG_DFL)
