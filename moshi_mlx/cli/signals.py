"""SIGTERM and a closed terminal stop a command like Ctrl-C: nothing is lost.

They raise KeyboardInterrupt, after which every command writes what it has so far. Then
the process ends by the signal, as the sender expects.
"""

import contextlib
import gc
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

ENDINGS = (signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130  # exit code of a program that SIGINT stopped


_newest: "Termination | None" = None


class Termination:
    """The signal that asked the program to stop; 0 if none did."""

    def __init__(self) -> None:
        self.signal = 0

    def finish(self) -> None:
        """End the process by the signal that asked for it, if there was one."""
        if not self.signal:
            return
        gc.collect()  # removes temporary files that nothing refers to any more
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        signal.signal(self.signal, signal.SIG_DFL)
        os.kill(os.getpid(), self.signal)


@contextlib.contextmanager
def as_ctrl_c() -> Iterator[Termination]:
    """Let SIGTERM and SIGHUP interrupt; ignored ones (nohup) stay ignored.

    After the first one, others are ignored: a closed terminal may send several, and
    files must not be left half written.
    """
    global _newest
    ending, taken = Termination(), []
    _newest = ending

    def end(number: int, _: FrameType | None) -> None:
        for other in taken:
            signal.signal(other, signal.SIG_IGN)
        ending.signal = number
        if number == signal.SIGHUP:
            _leave_terminal()
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        taken += [n for n in ENDINGS if signal.getsignal(n) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield ending
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _leave_terminal() -> None:
    """Print nothing: on a closed terminal, printing fails."""
    with open(os.devnull, "rb+", buffering=0) as nowhere:
        for number in (1, 2):
            with contextlib.suppress(OSError):
                if stat.S_ISCHR(os.fstat(number).st_mode):
                    os.dup2(nowhere.fileno(), number)


@contextlib.contextmanager
def at_once(busy: Callable[[], bool]) -> Iterator[None]:
    """Let Ctrl-C end the process though one of its threads works on; other signals do
    so anyway.

    Args:
        busy: whether a thread does something that cannot be stopped.
    """
    try:
        yield
    except KeyboardInterrupt:
        if busy() and not (_newest and _newest.signal):
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(INTERRUPTED)
        raise
