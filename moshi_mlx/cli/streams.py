"""Standard input, output and errors, also where whoever started us has closed them."""

import os
import sys


def open_streams() -> None:
    """Put /dev/null in the place of closed ones (``command <&-``, some services).

    Otherwise the next file that is opened gets such a number: MLX fails to read it, and
    a message would be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
