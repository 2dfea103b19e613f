"""Where a loaded library keeps the addresses of the functions that it calls.

The loader fills a table in the library's memory (ELF's procedure linkage table).
Writing to it changes what the library calls, however and whenever it was loaded.
"""

import ctypes
import struct
from collections.abc import Iterator

PT_DYNAMIC = 2
DT_PLTRELSZ, DT_STRTAB, DT_SYMTAB, DT_JMPREL = 2, 5, 6, 23


def slots(library: str) -> dict[str, ctypes.c_void_p]:
    """The functions that the loaded ``library`` calls, by name; empty if not loaded.

    Only writable entries are returned.
    """
    spans = _mappings(library)
    return {
        name: ctypes.c_void_p.from_address(slot)
        for name, slot in (_calls(spans[0][0]) if spans else ())
        if any(start <= slot < end and "w" in mode for start, end, mode in spans)
    }


def _mappings(library: str) -> list[tuple[int, int, str]]:
    """The library's place in memory: start, end, permissions."""
    with open("/proc/self/maps") as maps:
        lines = [line.split() for line in maps if line.rstrip().endswith(f"/{library}")]
    spans = [(*line[0].split("-"), line[1]) for line in lines]
    return [(int(start, 16), int(end, 16), mode) for start, end, mode in spans]


def _calls(base: int) -> Iterator[tuple[str, int]]:
    """Names of the functions that it calls, and the addresses of their entries.

    ``base`` is the address of its ELF header (64 bits, little endian).
    """
    ((headers,),) = _records("<Q", base + 32, 8)
    ((count,),) = _records("<H", base + 56, 2)
    segments = _records("<IIQQQQQQ", base + headers, 56 * count)
    where, size = next((s[3], s[6]) for s in segments if s[0] == PT_DYNAMIC)
    tags = {tag: value for tag, value in _records("<QQ", base + where, size)}
    # glibc has added the base to these addresses, other loaders have not
    at = {tag: value if value > base else base + value for tag, value in tags.items()}
    for slot, info, _ in _records("<QQq", at[DT_JMPREL], tags[DT_PLTRELSZ]):
        ((name,),) = _records("<I", at[DT_SYMTAB] + 24 * (info >> 32), 4)
        yield ctypes.string_at(at[DT_STRTAB] + name).decode(), base + slot


def _records(form: str, at: int, size: int) -> list[tuple[int, ...]]:
    """The records of ``form`` in ``size`` bytes of memory."""
    return list(struct.iter_unpack(form, ctypes.string_at(at, size)))
