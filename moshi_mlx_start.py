"""Where the programs start: no traceback of imports, from the first moment on.

Loading the package loads MLX, which may take a second. An interrupt meanwhile, or an
MLX that cannot be loaded, would show a traceback: hence a module beside the package.
"""

import os
import signal
import sys
from importlib import import_module
from typing import Any

INTERRUPTED = 130  # as in moshi_mlx/cli/main.py, which knows nothing of this file


def moshi_mlx() -> int:
    """`moshi-mlx`; returns the exit code."""
    return start("moshi_mlx.cli.main")


def local() -> int:
    """`moshi-local`."""
    return start("moshi_mlx.local")


def local_web() -> int:
    """`moshi-local-web`."""
    return start("moshi_mlx.local_web")


def start(module: str) -> int:
    """Load ``module`` and run its ``main``, which sees to Ctrl-C itself."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # a shell may have it ignored: let it be
        signal.signal(signal.SIGINT, _leave)
    try:
        main = import_module(module).main
    except ImportError as error:
        if not str(error).startswith("moshi_mlx cannot load MLX"):
            raise
        print(f"Error: {error}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGINT, before)
    return main()


def _leave(*_: Any) -> None:
    os._exit(INTERRUPTED)  # nothing is open yet; an exception would pass the imports
