"""A fast BLAS under MLX's CPU backend on Linux, where its own wheel brings a slow one.

MLX's Linux wheel links the reference BLAS: a 1024 x 1024 product takes 580 ms, with
OpenBLAS on one thread 22 ms (two x86-64 cores, mlx 0.32.4). A library that is loaded
with global symbols before MLX takes the reference's place. Metal, CUDA and macOS's
Accelerate do not need it.
"""

import ctypes
import os
import sys


def candidates() -> list[str]:
    """Where OpenBLAS may lie: the wheel `cmeel-openblas`, then the system's own."""
    wheel = [
        os.path.join(folder, "cmeel.prefix", "lib", "libopenblas.so.0")
        for folder in sys.path
    ]
    return [path for path in wheel if os.path.exists(path)] + ["libopenblas.so.0"]


def preload() -> str | None:
    """Load OpenBLAS for MLX; returns what was loaded, None where nothing was.

    One thread, unless OPENBLAS_NUM_THREADS says otherwise: more threads than idle cores
    make the small products of a live frame much slower.
    """
    if not sys.platform.startswith("linux") or "mlx.core" in sys.modules:
        return None
    for path in candidates():
        try:
            library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        except OSError:  # not there, or for another machine: MLX's own BLAS stays
            continue
        if "OPENBLAS_NUM_THREADS" not in os.environ:
            library.openblas_set_num_threads(1)
        return path
    return None
