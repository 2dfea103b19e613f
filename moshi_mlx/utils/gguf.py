"""GGUF files, as in candle's quantised Moshi, read in MLX's form of quantisation.

A block of 32 weights has one scale. Both kinds that candle writes are affine in MLX's
sense: ``weight = scale * q + bias``, where ``bias`` is -128 scales (Q8_0) or -8 (Q4_0).
The scales become float32: in 16 bits that bias would lose its last digits.

MLX reads GGUF too (``mx.load``), but it trusts the file, and turns bfloat16 into
float16. Source of the format: ggml-org/ggml, docs/gguf.md.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError

MAGIC = b"GGUF"
VERSIONS = (2, 3)  # the first one had 32-bit counts, and is no longer written
GROUP = 32  # weights that share a scale
MOST_NAMED = 1_000_000  # tensors, or entries of a list, in a file that is not damaged
LONGEST_NAME = 1024  # bytes
MOST_AXES = 4
LONGEST_AXIS = 2**31  # MLX counts in 32 bits
DEEPEST_LIST = 4  # lists in lists
STRING, LIST = 8, 9  # kinds of metadata
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # others


@dataclass(frozen=True)
class Storage:
    """How a tensor's numbers are stored.

    Attributes:
        name: GGUF's name for it.
        block: weights in a block.
        nbytes: bytes of a block.
        bits: bits of a quantised weight, 0 for others.
    """

    name: str
    block: int
    nbytes: int
    bits: int = 0


KINDS = {
    0: Storage("F32", 1, 4),
    1: Storage("F16", 1, 2),
    2: Storage("Q4_0", GROUP, 18, 4),
    3: Storage("Q4_1", GROUP, 20, 4),
    8: Storage("Q8_0", GROUP, 34, 8),
    30: Storage("BF16", 1, 2),
}
UNREAD = {6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K"}
UNREAD |= {13: "Q5_K", 14: "Q6_K", 15: "Q8_K"}


@dataclass(frozen=True)
class GgufTensor:
    """One tensor: its kind, its shape as in PyTorch, and the place of its bytes."""

    kind: Storage
    shape: tuple[int, ...]
    start: int
    nbytes: int


def gguf_header(path: Path) -> dict[str, GgufTensor]:
    """The header of a GGUF file.

    Raises: CheckpointError for a file that is cut short, damaged, or of an unsupported
        kind.
    """
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _Header(data, path).tensors()
    except (struct.error, IndexError):  # the header itself goes beyond the end
        raise cut_short(path, len(data)) from None
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{str(path)!r} has a damaged GGUF header ({error}): download it again."
        ) from error
    finally:
        data.close()


def read_gguf(path: Path, shapes_only: bool = False) -> dict[str, mx.array]:
    """The tensors of a GGUF file; quantised ones as MLX's three arrays.

    A quantised ``X.weight`` becomes ``X.weight`` (uint32), ``X.scales`` and
    ``X.biases`` (float32); so does ``X_weight``. Others keep their names.

    Args:
        shapes_only: read no numbers: the arrays are zeros, which cost nothing until
            used.

    Raises: CheckpointError as ``gguf_header``.
    """
    header = gguf_header(path)
    weights: dict[str, mx.array] = {}
    if shapes_only or not header:
        raw: NDArray[np.uint8] = np.zeros(0, np.uint8)
    else:
        raw = np.memmap(path, np.uint8, "r")
    for name, tensor in header.items():
        parts = _empty(tensor) if shapes_only else _read(raw, tensor)
        if not tensor.kind.bits:
            weights[name] = parts["weight"]
            continue
        stem = name.removesuffix("weight").rstrip("._")
        weights |= {f"{stem}.{part}": array for part, array in parts.items()}
    return weights


def unpacked(weights: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """The tensors from ``read_gguf``, quantised ones as float32 again."""
    plain = dict(weights)
    for name, scales in weights.items():
        path = name.removesuffix(".scales")
        if path != name:
            packed, biases = plain.pop(f"{path}.weight"), plain.pop(f"{path}.biases")
            bits = packed.shape[-1] // plain.pop(name).shape[-1]
            plain[f"{path}.weight"] = mx.dequantize(packed, scales, biases, GROUP, bits)
    return plain


class _Header:
    """Reads the header of ``data``, the whole file."""

    def __init__(self, data: mmap.mmap, path: Path):
        self.data, self.path, self.at = data, path, 4

    def tensors(self) -> dict[str, GgufTensor]:
        (version,) = self._take("<I")
        if version not in VERSIONS:
            raise CheckpointError(
                f"{str(self.path)!r} is GGUF of version {version}: versions 2 and 3 "
                "are read."
            )
        count, entries = self._take("<QQ")
        if max(count, entries) > MOST_NAMED:
            raise ValueError(f"{max(count, entries):,} entries")
        alignment = self._alignment(entries)
        found = [self._entry() for _ in range(count)]
        start = -(-self.at // alignment) * alignment
        placed: dict[str, GgufTensor] = {}
        for name, kind, shape, offset in found:
            size = math.prod(shape) // kind.block * kind.nbytes
            if name in placed:
                raise ValueError(f"tensor {name[:80]!r} twice")
            placed[name] = GgufTensor(kind, shape, start + offset, size)
        end = max((t.start + t.nbytes for t in placed.values()), default=0)
        if end > len(self.data):
            raise cut_short(self.path, len(self.data), end)
        spans = sorted((t.start, t.start + t.nbytes) for t in placed.values())
        if any(begin < end for (_, end), (begin, _) in pairwise(spans)):
            raise ValueError("tensors that overlap")
        return placed

    def _alignment(self, entries: int) -> int:
        """The alignment of tensors in bytes; the only entry that is used."""
        alignment = 32
        for _ in range(entries):
            key = self._text()
            (kind,) = self._take("<I")
            if key == "general.alignment" and kind == 4:
                (alignment,) = self._take("<I")
            else:
                self._skip(kind)
        if alignment < 1 or alignment > 2**20 or alignment % 8:
            raise ValueError(f"an alignment of {alignment}")
        return alignment

    def _entry(self) -> tuple[str, Storage, tuple[int, ...], int]:
        name = self._text()
        if not name:
            raise ValueError("a tensor without a name")
        (axes,) = self._take("<I")
        if axes > MOST_AXES:
            raise ValueError(f"tensor {name[:80]!r} with {axes} axes")
        shape = tuple(reversed(self._take(f"<{axes}Q")))  # innermost first
        number, offset = self._take("<IQ")
        kind = KINDS.get(number)
        if kind is None:
            raise CheckpointError(
                f"{str(self.path)!r} holds {UNREAD.get(number, f'type {number}')} "
                f"({name[:80]}), which MLX has no form for: use a file in Q8_0 or Q4_0."
            )
        too_large = math.prod(shape) >= 2**48 or max(shape, default=0) >= LONGEST_AXIS
        if too_large or (shape[-1] if shape else 1) % kind.block:
            raise ValueError(f"tensor {name[:80]!r} of shape {shape} in {kind.name}")
        return name, kind, shape, offset

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values

    def _text(self) -> str:
        (length,) = self._take("<Q")
        if length > LONGEST_NAME:
            raise ValueError(f"a name of {length:,} bytes")
        return self._take(f"<{length}s")[0].decode()

    def _skip(self, kind: int, depth: int = 0) -> None:
        """Skip a value of the metadata."""
        if kind in SIZES:
            self.at += SIZES[kind]
        elif kind == STRING:
            (length,) = self._take("<Q")
            self.at += length
        elif kind == LIST and depth < DEEPEST_LIST:
            inner, count = self._take("<IQ")
            if inner in SIZES:
                self.at += SIZES[inner] * count
            elif count > MOST_NAMED:
                raise ValueError(f"a list of {count:,} entries")
            else:
                for _ in range(count):
                    self._skip(inner, depth + 1)
        else:
            raise ValueError(f"metadata of type {kind}")
        if self.at > len(self.data):
            raise IndexError


def cut_short(path: Path, size: int, wanted: int | None = None) -> CheckpointError:
    """What is said of a file of weights that has ``size`` bytes of ``wanted``."""
    unit, name = (1e6, "MB") if (wanted or size) >= 1e6 else (1e3, "kB")
    there = f"{size / unit:.1f}" + (f" of {wanted / unit:.1f}" if wanted else "")
    return CheckpointError(
        f"{str(path)!r} is cut short, {there} {name} are there: download it again."
    )


def _read(raw: NDArray[np.uint8], tensor: GgufTensor) -> Mapping[str, mx.array]:
    """A tensor's arrays: ``weight``, and of a quantised one ``scales``, ``biases``."""
    data = raw[tensor.start : tensor.start + tensor.nbytes]
    kind, shape = tensor.kind, tensor.shape
    if kind.name == "BF16":
        bits = mx.array(data.view("<u2").reshape(shape))
        return {"weight": bits.view(mx.bfloat16)}
    if not kind.bits:
        numbers = data.view("<f4" if kind.name == "F32" else "<f2")
        return {"weight": mx.array(numbers.reshape(shape))}
    rows, width = shape[:-1], shape[-1]
    blocks = data.reshape(*rows, width // kind.block, kind.nbytes)
    quanta = kind.block * kind.bits // 8
    heads = np.ascontiguousarray(blocks[..., :-quanta]).view("<f2").astype(np.float32)
    scales, packed = heads[..., 0], blocks[..., -quanta:]
    with np.errstate(invalid="ignore"):  # scales that are NaN are reported later
        if kind.name == "Q8_0":
            packed, biases = packed ^ 0x80, -128 * scales  # signed bytes as 0 to 255
        else:
            packed = _in_order(packed)
            biases = heads[..., 1] if kind.name == "Q4_1" else -8 * scales
    words = np.ascontiguousarray(packed).view("<u4")
    words = words.reshape(*rows, width * kind.bits // 32)
    return {
        "weight": mx.array(words),
        "scales": mx.array(scales),
        "biases": mx.array(biases),
    }


def _in_order(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Half bytes in the order of the weights: GGUF has the first 16 in the lower halves
    of a block's bytes, and the other 16 in the upper ones."""
    halves = np.concatenate([packed & 15, packed >> 4], axis=-1)
    return (halves[..., ::2] | halves[..., 1::2] << 4).astype(np.uint8)


def _empty(tensor: GgufTensor) -> Mapping[str, mx.array]:
    """Arrays of zeros in place of a tensor's own."""
    kind, shape = tensor.kind, tensor.shape
    if not kind.bits:
        types = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}
        return {"weight": mx.zeros(shape, types[kind.name])}
    groups = mx.zeros((*shape[:-1], shape[-1] // GROUP))
    words = mx.zeros((*shape[:-1], shape[-1] * kind.bits // 32), mx.uint32)
    return {"weight": words, "scales": groups, "biases": groups}
