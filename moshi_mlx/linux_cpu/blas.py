"""Makes the loaded MLX call OpenBLAS, and `products.c` for products of few rows.

OpenBLAS is 20 times as fast as the reference BLAS on one thread (docs/performance.md).
Live frames are mostly products of few rows, which are four times as fast again in
`products.c`.

OpenBLAS comes from the wheel that NumPy and SciPy use, `scipy-openblas32`. It picks
its kernels for the processor it runs on and needs no other library. (The wheel
`cmeel-openblas` is built for AVX-512 only and crashes elsewhere.) The C file is
compiled once for this processor and kept in the user's cache; without a C compiler
OpenBLAS does all the work.
"""

import ctypes
import hashlib
import logging
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from .slots import slots

_log = logging.getLogger(__name__)

NAMES = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm")  # all that libmlx.so uses
SOURCE = Path(__file__).with_name("products.c")
# Tuned for no processor: some tunings change the order of short sums.
COMPILE = "cc -O3 -march=native -mtune=generic -ffp-contract=fast -shared -fPIC"


def install() -> list[str]:
    """Change the functions that MLX calls; calling it again changes nothing more.

    Returns: the paths of the libraries that it calls now.
    """
    calls = slots("libmlx.so")
    if not all(name in calls for name in NAMES):
        return []
    done = []
    if _wanted("OPENBLAS") and (openblas := _openblas()) is not None:
        for name in NAMES:
            calls[name].value = _address(openblas, f"scipy_{name}")
        done.append(openblas._name)
        _log.info("matrix products on this CPU use OpenBLAS, %s", done[-1])
    if _wanted("PRODUCTS") and (products := _products()) is not None:
        mine, sgemm = _address(products, "few_rows_sgemm"), calls[NAMES[0]]
        if sgemm.value != mine:
            ctypes.c_void_p.in_dll(products, "other_sgemm").value = sgemm.value
            sgemm.value = mine
        done.append(products._name)
        _log.info("products of few rows use our own kernel, %s", done[-1])
    return done


def _wanted(name: str) -> bool:
    """Whether the user has not turned this one off."""
    return not os.environ.get(f"MOSHI_MLX_NO_{name}")


def _address(library: ctypes.CDLL, name: str) -> int | None:
    return ctypes.cast(library[name], ctypes.c_void_p).value


def _openblas() -> ctypes.CDLL | None:
    """The wheel's library, found without importing the wheel.

    It runs on one thread unless OPENBLAS_NUM_THREADS says otherwise: with more threads
    than idle cores, the small products of a live frame become much slower.
    """
    parts = ("scipy_openblas32", "lib", "libscipy_openblas.so")
    paths = [os.path.join(folder, *parts) for folder in sys.path]
    try:
        library = ctypes.CDLL(next(path for path in paths if os.path.exists(path)))
    except (StopIteration, OSError):  # not installed, or built for another machine
        return None
    if "OPENBLAS_NUM_THREADS" not in os.environ:
        library.scipy_openblas_set_num_threads(1)
    return library


def to_compile() -> bool:
    """Whether `products.c` is wanted, not compiled yet, and there is a compiler."""
    wanted = _wanted("PRODUCTS") and shutil.which(COMPILE.split()[0]) is not None
    return wanted and not _compiled_path().exists()


def _compiled_path() -> Path:
    """The path of `products.c` once it is compiled for this processor."""
    with open("/proc/cpuinfo") as info:
        named = ("flags", "Features")  # of the first core, on x86 and on ARM
        features = next((line for line in info if line.startswith(named)), "")
    key = hashlib.sha256(f"{COMPILE}{features}".encode() + SOURCE.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "moshi_mlx" / f"products-{key.hexdigest()[:16]}.so"


def _products() -> ctypes.CDLL | None:
    """`products.c`, compiled into the user's cache unless it is there already."""
    path = _compiled_path()
    with suppress(OSError):
        return ctypes.CDLL(str(path))
    from subprocess import SubprocessError, run

    _log.info("compiling %s for this processor, once: live frames get faster", SOURCE)
    mine = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [*COMPILE.split(), str(SOURCE), "-o", str(mine)]
        run(command, check=True, capture_output=True, timeout=60)
        mine.replace(path)  # atomic: another process may be compiling too
        return ctypes.CDLL(str(path))
    except (OSError, SubprocessError) as error:
        _log.info("%s was not compiled (%s): OpenBLAS does its work", SOURCE, error)
        return None
