"""MLX's needs in its process: a temporary folder, and no fork after its use."""

import logging
import os
import tempfile
from functools import cache
from typing import NoReturn

from ..errors import MoshiError

logger = logging.getLogger(__name__)
FORKED = (
    "this process was forked from one in which a model had been loaded, and MLX does "
    "not work in such a copy: start processes with multiprocessing.get_context('spawn')"
    ", or load models only after the fork."
)


@cache
def prepare_process() -> None:
    """Called before a model is built; does its work once per process.

    A copy of this process (``os.fork``) is made to say why it cannot compute: MLX's
    threads are not in the copy, and it would wait for them forever. If TMPDIR is not a
    folder, another one is used: on CPU, MLX compiles there.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=_refuse_to_compute)
    _mend_tmpdir()


def _mend_tmpdir() -> None:
    for name in ("TMPDIR", "TMP", "TEMP", "TEMPDIR"):  # in the order in which C++ looks
        if folder := os.environ.get(name):
            if not os.path.isdir(folder):
                os.environ[name] = tempfile.gettempdir()
                logger.warning(
                    "%s names no folder (%s): %s is used",
                    name,
                    folder,
                    os.environ[name],
                )
            return


def _refuse_to_compute() -> None:
    import mlx.core as mx

    mx.eval = mx.async_eval = _refuse


def _refuse(*_: object, **__: object) -> NoReturn:
    raise MoshiError(FORKED)
