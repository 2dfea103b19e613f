"""A fast BLAS under MLX's CPU backend on Linux, where its own wheel brings a slow one.

MLX's Linux wheel links the reference BLAS, which OpenBLAS beats 20 times on one thread
(docs/performance.md). Metal, CUDA and macOS's Accelerate do not need it.

OpenBLAS comes with NumPy's and SciPy's own wheel, `scipy-openblas32`: it chooses its
kernels by the processor it runs on, and needs no other library. (The wheel
`cmeel-openblas` is built for AVX-512 alone and ends the process elsewhere.) Its names
begin with "scipy_", and programs import MLX before this package or after it: so the
table in which the loader keeps the addresses that libmlx.so calls is written to.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterator

NAMES = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm")  # all that libmlx.so asks for
PT_DYNAMIC = 2
DT_PLTRELSZ, DT_STRTAB, DT_SYMTAB, DT_JMPREL = 2, 5, 6, 23


def wheel() -> str | None:
    """The library of the wheel `scipy-openblas32`, found without importing it."""
    parts = ("scipy_openblas32", "lib", "libscipy_openblas.so")
    paths = [os.path.join(folder, *parts) for folder in sys.path]
    return next((path for path in paths if os.path.exists(path)), None)


def mappings(library: str) -> list[tuple[int, int, str]]:
    """Where the loaded ``library`` lies in memory: start, end, permissions."""
    with open("/proc/self/maps") as maps:
        lines = [line.split() for line in maps if line.rstrip().endswith(f"/{library}")]
    spans = [(*line[0].split("-"), line[1]) for line in lines]
    return [(int(start, 16), int(end, 16), mode) for start, end, mode in spans]


def records(form: str, at: int, size: int) -> list[tuple[int, ...]]:
    """The records of ``form`` in ``size`` bytes of memory."""
    return list(struct.iter_unpack(form, ctypes.string_at(at, size)))


def slots(base: int) -> Iterator[tuple[str, int]]:
    """Names of the functions that a loaded library calls, and where it looks them up.

    ``base`` is the address of its ELF header (64 bits, little endian).
    """
    ((headers,),) = records("<Q", base + 32, 8)
    ((count,),) = records("<H", base + 56, 2)
    segments = records("<IIQQQQQQ", base + headers, 56 * count)
    where, size = next((s[3], s[6]) for s in segments if s[0] == PT_DYNAMIC)
    tags = {tag: value for tag, value in records("<QQ", base + where, size)}
    # glibc has added the base to the addresses among them, other loaders have not
    at = {tag: value if value > base else base + value for tag, value in tags.items()}
    for slot, info, _ in records("<QQq", at[DT_JMPREL], tags[DT_PLTRELSZ]):
        ((name,),) = records("<I", at[DT_SYMTAB] + 24 * (info >> 32), 4)
        yield ctypes.string_at(at[DT_STRTAB] + name).decode(), base + slot


def replace(openblas: ctypes.CDLL) -> bool:
    """Make the loaded MLX call ``openblas``; returns whether it now does."""
    spans = mappings("libmlx.so")
    done = 0
    for name, slot in slots(spans[0][0]) if spans else ():
        if name in NAMES and any(a <= slot < b and "w" in mode for a, b, mode in spans):
            function = ctypes.cast(openblas[f"scipy_{name}"], ctypes.c_void_p)
            ctypes.c_void_p.from_address(slot).value = function.value
            done += 1
    return done == len(NAMES)


def install() -> str | None:
    """Put OpenBLAS under the loaded MLX; returns its path, None where nothing is done.

    MOSHI_MLX_NO_OPENBLAS=1 leaves MLX its own, to compare.
    One thread, unless OPENBLAS_NUM_THREADS says otherwise: more threads than idle cores
    make the small products of a live frame much slower.
    """
    if sys.platform != "linux" or os.environ.get("MOSHI_MLX_NO_OPENBLAS"):
        return None
    if (path := wheel()) is None:
        return None
    try:
        openblas = ctypes.CDLL(path)
    except OSError:  # made for another machine: MLX's own BLAS stays
        return None
    if "OPENBLAS_NUM_THREADS" not in os.environ:
        openblas.scipy_openblas_set_num_threads(1)
    return path if replace(openblas) else None
