"""Signals that end a server cleanly."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_to(end: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call ``end`` for Ctrl-C, SIGTERM and a closed terminal. Afterwards the signals
    that came are raised again, so that the process ends by them.

    A signal that was ignored when the process started stays ignored: nohup, or a script
    that runs the server in the background. Outside the main thread, no signals are
    received.
    """
    came: list[int] = []

    def take(number: int, frame: FrameType | None) -> None:
        came.append(number)
        end(number, frame)

    before = {}
    if threading.current_thread() is threading.main_thread():
        heard = [n for n in _ENDINGS if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, take) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in reversed(came):
        signal.raise_signal(number)
