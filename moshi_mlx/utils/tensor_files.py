"""Files of weights from strangers: the header is checked before anything is mapped.

They are safetensors, or GGUF (see ``gguf``), distinguished by their first bytes. Any
other file is refused in one sentence: missing, empty, cut short, a pickle, a Git LFS
pointer, a header whose tensors overlap or go beyond the file.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..errors import CheckpointError
from .gguf import MAGIC, cut_short, gguf_header, read_gguf
from .json_text import MAX_BYTES, parse_json

Weights = dict[str, mx.array]

MOST_TENSORS = 50_000  # a released model has 1,000; MLX takes long for each
MAX_RANK = 8  # axes of one tensor; models have 4
BITS = {  # of one element, by the type's name in a header
    **{"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32},
    **{"U64": 64, "I64": 64, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64},
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8},
}
FP8 = "F8_E4M3"  # MLX maps it as bytes, which from_fp8 turns into numbers
UNREAD = {"F8_E5M2", "F8_E8M0"}  # mapped as bytes too, and nothing converts them
FOREIGN_STARTS = {  # first bytes of files that people take for weights
    b"PK\x03\x04": "is a PyTorch pickle, which is not read for safety: save it as "
    "safetensors",
    b"\x80\x02": "is a Python pickle, which is not read for safety: save it as "
    "safetensors",
    b"version https://git-lfs": "is a Git LFS pointer, not the weights: run "
    "'git lfs pull' in its folder",
}


@dataclass(frozen=True)
class TensorInfo:
    """One tensor by its file's header; ``dtype`` is the file's name for it ("BF16")."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The header of a file of weights, without reading the tensors.

    Raises: CheckpointError for anything but a complete safetensors or GGUF file.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no weights file {str(path)!r}: check its path."
        )
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError(
            f"weights file {str(path)!r} is empty: download it again."
        )
    with path.open("rb") as file:
        start = file.read(64)
        if start.startswith(MAGIC):
            found = gguf_header(path)
            return {
                name: TensorInfo(tensor.kind.name, tensor.shape, tensor.nbytes)
                for name, tensor in found.items()
            }
        for magic, what in FOREIGN_STARTS.items():
            if start.startswith(magic):
                raise CheckpointError(f"{str(path)!r} {what}.")
        length = int.from_bytes(start[:8], "little")
        if len(start) < 9 or length > MAX_BYTES or start[8:9] != b"{":
            raise CheckpointError(f"{str(path)!r} is not a safetensors file.")
        file.seek(8)
        text = file.read(length)
    if len(text) < length:
        raise cut_short(path, size)
    try:
        tensors, end = _read_entries(parse_json(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{str(path)!r} has a damaged header ({_words(error)}): download it again."
        ) from error
    if size < 8 + length + end:
        raise cut_short(path, size, 8 + length + end)
    return tensors


def _read_entries(entries: Any) -> tuple[dict[str, TensorInfo], int]:
    """The tensors of a header, and the number of bytes that follow it."""
    entries.pop("__metadata__", None)
    if len(entries) > MOST_TENSORS:
        raise ValueError(f"it names {len(entries)} tensors")
    tensors: dict[str, TensorInfo] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in entries.items():
        dtype, shape = entry["dtype"], _whole(entry["shape"], MAX_RANK)
        begin, end = _whole(entry["data_offsets"], 2)
        if not isinstance(dtype, str) or begin > end:
            raise ValueError(f"tensor {name[:80]!r} makes no sense")
        bits = BITS.get(dtype)
        if bits is not None and math.prod(shape) * bits != 8 * (end - begin):
            raise ValueError(f"tensor {name[:80]!r} has another size than its shape")
        tensors[name] = TensorInfo(dtype, tuple(shape), end - begin)
        if end > begin:
            spans.append((begin, end, name))
    return tensors, _end_of(sorted(spans))


def _end_of(spans: Iterable[tuple[int, int, str]]) -> int:
    """The end of the last of sorted spans; raises ValueError if two overlap."""
    last = 0
    for begin, end, name in spans:
        if begin < last:
            raise ValueError(f"tensor {name[:80]!r} overlaps another")
        last = end
    return last


def _whole(values: Any, most: int) -> list[int]:
    fits = isinstance(values, list) and len(values) <= most
    if not fits or any(type(v) is not int or not 0 <= v < 2**48 for v in values):
        raise ValueError(f"{repr(values)[:80]} is not a list of sizes")
    return values


def _words(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"an entry without {error}"
    return str(error).rstrip(".") if isinstance(error, ValueError) else "no such form"


def is_gguf(path: Path) -> bool:
    """Whether a file is GGUF, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_tensors(path: Path, shapes_only: bool = False) -> Weights:
    """The tensors of a file of weights.

    Safetensors are read when they are used; 8-bit numbers (E4M3) become bfloat16. GGUF
    is read at once: see ``read_gguf``.

    Args:
        shapes_only: the numbers will not be used.

    Raises: CheckpointError for anything but a complete safetensors or GGUF file.
    """
    header = read_header(path)
    if is_gguf(path):
        return read_gguf(path, shapes_only)
    strange = {t.dtype for t in header.values()} - (BITS.keys() - UNREAD)
    if strange:
        raise CheckpointError(
            f"{str(path)!r} cannot be read: MLX has no type "
            f"{sorted(strange)[0][:20]!r}."
        )
    try:
        weights = mx.load(str(path), format="safetensors")
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read: {str(error).splitlines()[0]}"
        ) from error
    assert isinstance(weights, dict)
    for name, tensor in header.items():
        if tensor.dtype == FP8:
            weights[name] = mx.from_fp8(weights[name], mx.bfloat16)
    return weights


def load(file: str | PathLike[str]) -> Weights | mx.array:
    """``mx.load``, with the header of a safetensors file checked first."""
    if str(file).endswith(".safetensors") and Path(file).exists():
        return read_tensors(Path(file))
    return mx.load(str(file))  # type: ignore[return-value]


def save_tensors(
    path: Path, arrays: Weights, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file, whatever its name. Raises: OSError."""
    with path.open("wb") as file:  # MLX adds an ending to a name that lacks it
        try:
            mx.save_safetensors(file, arrays, metadata)  # type: ignore[arg-type]
        except RuntimeError as error:  # MLX raises it for a failed write
            raise OSError(str(error).splitlines()[0].rstrip(".")) from error


def check_numbers(arrays: Iterable[tuple[str, mx.array]], what: str) -> None:
    """Raise a CheckpointError if one of the named arrays contains NaN."""
    floats = [
        (n, w) for n, w in arrays if w.size and mx.issubdtype(w.dtype, mx.floating)
    ]
    worst = [mx.isnan(w.max()) for _, w in floats]  # the maximum of NaN is NaN
    mx.eval(worst)
    for (name, _), bad in zip(floats, worst, strict=True):
        if bad.item():
            raise CheckpointError(
                f"{what}: {name} holds values that are not numbers (NaN), so the model "
                "could say nothing: fetch the file again, or ask its author."
            )
