"""Fast products under MLX's CPU backend on Linux, where its own wheel brings slow ones.

MLX's Linux wheel links the reference BLAS, which OpenBLAS beats 20 times on one thread
(docs/performance.md); products by few rows, which live frames are made of, are four
times as fast again in `products.c`. Metal, CUDA and macOS's Accelerate need neither.

OpenBLAS comes with NumPy's and SciPy's own wheel, `scipy-openblas32`: it chooses its
kernels by the processor it runs on, and needs no other library. (The wheel
`cmeel-openblas` is built for AVX-512 alone and ends the process elsewhere.) The C file
is compiled for this processor once, as MLX compiles its fused operations; without a C
compiler OpenBLAS does its work.
"""

import ctypes
import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path

from .slots import slots

NAMES = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm")  # all that libmlx.so asks for
SOURCE = Path(__file__).with_name("products.c")
# Tuned for no processor: some tunings add up otherwise where a chain of sums is short.
COMPILE = "cc -O3 -march=native -mtune=generic -ffp-contract=fast -shared -fPIC"


def install() -> list[str]:
    """Put both under the loaded MLX; returns the paths of what it now calls.

    MOSHI_MLX_NO_OPENBLAS=1 leaves MLX its own, to compare.
    """
    if sys.platform != "linux" or os.environ.get("MOSHI_MLX_NO_OPENBLAS"):
        return []
    calls = slots("libmlx.so")
    if not all(name in calls for name in NAMES):
        return []
    done = []
    if (openblas := _openblas()) is not None:
        for name in NAMES:
            calls[name].value = _address(openblas, f"scipy_{name}")
        done.append(openblas._name)
    if (products := _products()) is not None:
        mine, sgemm = _address(products, "few_rows_sgemm"), calls[NAMES[0]]
        if sgemm.value != mine:
            ctypes.c_void_p.in_dll(products, "other_sgemm").value = sgemm.value
            sgemm.value = mine
        done.append(products._name)
    return done


def _address(library: ctypes.CDLL, name: str) -> int | None:
    return ctypes.cast(library[name], ctypes.c_void_p).value


def _openblas() -> ctypes.CDLL | None:
    """The library of the wheel, found without importing it.

    One thread, unless OPENBLAS_NUM_THREADS says otherwise: more threads than idle cores
    make the small products of a live frame much slower.
    """
    parts = ("scipy_openblas32", "lib", "libscipy_openblas.so")
    paths = [os.path.join(folder, *parts) for folder in sys.path]
    try:
        library = ctypes.CDLL(next(path for path in paths if os.path.exists(path)))
    except (StopIteration, OSError):  # not there, or made for another machine
        return None
    if "OPENBLAS_NUM_THREADS" not in os.environ:
        library.scipy_openblas_set_num_threads(1)
    return library


def _products() -> ctypes.CDLL | None:
    """`products.c`, compiled where it was not yet, into the user's cache."""
    with open("/proc/cpuinfo") as info:
        named = ("flags", "Features")  # on x86, on ARM: of the first core
        features = next((line for line in info if line.startswith(named)), "")
    key = hashlib.sha256(f"{COMPILE}{features}".encode() + SOURCE.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "moshi_mlx" / f"products-{key.hexdigest()[:16]}.so"
    with suppress(OSError):
        return ctypes.CDLL(str(path))
    from subprocess import SubprocessError, run

    mine = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [*COMPILE.split(), str(SOURCE), "-o", str(mine)]
        run(command, check=True, capture_output=True, timeout=60)
        mine.replace(path)  # whole or not at all, whoever else does the same
        return ctypes.CDLL(str(path))
    except (OSError, SubprocessError):
        return None
