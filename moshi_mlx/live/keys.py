"""Single keys from a terminal, without waiting for Enter."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator

_ARROWS = {b"\x1b[A": "+", b"\x1b[B": "-", b"\x1bOA": "+", b"\x1bOB": "-"}
END = "end"  # the terminal has been closed


@contextlib.contextmanager
def keys(on_key: Callable[[str], None]) -> Iterator[None]:
    """Call ``on_key`` with every key pressed on stdin, if that is a terminal.

    It is called on a thread of its own, with a character ("+" and "-" for the arrows up
    and down) or ``END``. The terminal is restored afterwards, whatever happens.
    """
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    threading.Thread(
        target=_read, args=(fd, on_key), name="moshi-keys", daemon=True
    ).start()
    try:
        tty.setcbreak(fd)
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _read(fd: int, on_key: Callable[[str], None]) -> None:
    while True:
        try:
            typed = os.read(fd, 16)
        except OSError:
            typed = b""
        if not typed:
            on_key(END)
            return
        if typed in _ARROWS:
            on_key(_ARROWS[typed])
        else:
            for char in typed.decode(errors="ignore"):
                on_key(char)
