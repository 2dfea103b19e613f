"""Tensors from files written by ``torch.save``, without running a pickle.

Such a file is a zip archive: a pickle that describes a tree of containers, and the
numbers of each tensor beside it. A pickle is a program, and Python's own reader would
run whatever it asks for. This reader knows the two dozen instructions that
``torch.save`` uses for dicts, lists, tuples, strings, numbers and tensors, and refuses
all others.

NVIDIA ships PersonaPlex's voices in this form; weights are never read from it.
Source of the format: pytorch, torch/serialization.py (version 3).
"""

import io
import math
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import CheckpointError

MAX_FILE = 64 * 2**20  # bytes; a voice has half a megabyte
MAX_PICKLE = 2**20
MAX_RANK = 16
STORAGES: dict[str, tuple[type[np.generic], mx.Dtype | None]] = {
    "BFloat16Storage": (np.uint16, mx.bfloat16),  # NumPy has no such type: raw bits
    "HalfStorage": (np.float16, None),
    "FloatStorage": (np.float32, None),
    "LongStorage": (np.int64, None),
    "IntStorage": (np.int32, None),
}
TENSOR = "torch._utils _rebuild_tensor_v2"
ORDERED = "collections OrderedDict"
LITERALS = "BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A function or class that the file names; none is ever called."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """Numbers that tensors are views of."""

    numbers: np.ndarray
    kind: mx.Dtype | None


def read_torch(path: str | Path, data: bytes | None = None) -> Any:
    """The content of a ``torch.save`` file: containers, strings, numbers and MLX
    arrays.

    Args:
        data: its bytes, if it is not a separate file; ``path`` is then its name.

    Raises: CheckpointError if the file holds anything else, is damaged or missing.
    """
    try:
        if data is None:
            with Path(path).open("rb") as file:
                data = file.read(MAX_FILE + 1)
            if len(data) > MAX_FILE:
                raise ValueError(f"it has more than {MAX_FILE >> 20} MiB")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _Reader(_members(archive)).read()
    except OSError as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read: {error.strerror or error}."
        ) from error
    except (
        *(ValueError, LookupError, TypeError, OverflowError),
        *(zipfile.BadZipFile, NotImplementedError),  # the latter of zip's newer forms
    ) as error:
        raise CheckpointError(
            f"{str(path)!r} is not a file of tensors that torch.save wrote "
            f"({_words(error)}): give one, or a safetensors file."
        ) from error


def _words(error: Exception) -> str:
    words = str(error.args[0]) if error.args else "it is damaged"
    return " ".join(words[:100].split()).rstrip(".")


def _members(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """The members of an archive without its folder's name."""
    members: dict[str, bytes] = {}
    # Members may overlap, so that a small file holds many large ones.
    if sum(entry.file_size for entry in archive.infolist()) > MAX_FILE:
        raise ValueError(f"its members have more than {MAX_FILE >> 20} MiB")
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise ValueError("it is compressed or encrypted")
        name = entry.filename.partition("/")[2]
        if name == "data.pkl" and entry.file_size > MAX_PICKLE:
            raise ValueError("its pickle is too large")
        members[name] = archive.read(entry)
    if members.get("byteorder", b"little") != b"little":
        raise ValueError("its numbers are big-endian")
    return members


class _Reader:
    """A machine for the instructions of one pickle.

    Args:
        members: of the archive.
    """

    def __init__(self, members: Mapping[str, bytes]):
        self._members = members
        self._storages: dict[str, _Storage] = {}
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._made = 0  # bytes of tensors
        self._do: dict[str, Callable[[Any], None]] = {
            "PROTO": lambda _: None,
            **dict.fromkeys(("BINPUT", "LONG_BINPUT"), self._keep),
            **dict.fromkeys(("BINGET", "LONG_BINGET"), self._recall),
            **dict.fromkeys(LITERALS, self._stack.append),
            **{name: self._constant(value) for name, value in CONSTANTS.items()},
            "EMPTY_DICT": lambda _: self._stack.append({}),
            "EMPTY_LIST": lambda _: self._stack.append([]),
            "EMPTY_TUPLE": lambda _: self._stack.append(()),
            "MARK": lambda _: self._stack.append(_MARK),
            "TUPLE": lambda _: self._stack.append(tuple(self._since_mark())),
            "TUPLE1": lambda _: self._stack.append(tuple(self._taken(1))),
            "TUPLE2": lambda _: self._stack.append(tuple(self._taken(2))),
            "TUPLE3": lambda _: self._stack.append(tuple(self._taken(3))),
            "SETITEM": lambda _: self._set(self._taken(2)),
            "SETITEMS": lambda _: self._set(self._since_mark()),
            "APPEND": lambda _: self._append(self._taken(1)),
            "APPENDS": lambda _: self._append(self._since_mark()),
            "GLOBAL": lambda name: self._stack.append(_Name(name)),
            "BINPERSID": lambda _: self._refer(),
            "REDUCE": lambda _: self._call(),
        }

    def read(self) -> Any:
        if "data.pkl" not in self._members:
            raise ValueError("it holds no data.pkl")
        pickled = self._members["data.pkl"]
        if b"\\" in pickled:  # in the names of functions, escapes would be read
            raise ValueError("it holds an escape")
        for code, argument, _ in pickletools.genops(pickled):
            if code.name == "STOP":
                break
            if code.name not in self._do:
                raise ValueError(f"it holds the instruction {code.name}")
            self._do[code.name](argument)
        (result,) = self._stack
        _check(result)
        return result

    def _constant(self, value: Any) -> Callable[[Any], None]:
        return lambda _: self._stack.append(value)

    def _keep(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _recall(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _refer(self) -> None:
        """Numbers that a tensor is a view of."""
        self._stack.append(self._storage(*_of(tuple, self._stack.pop())))

    def _call(self) -> None:
        name, arguments = self._taken(2)
        made = _made(_of(_Name, name), _of(tuple, arguments))
        if isinstance(made, mx.array):  # many may be views of the same numbers
            self._made += made.nbytes
            if self._made > MAX_FILE:
                raise ValueError(f"its tensors have more than {MAX_FILE >> 20} MiB")
        self._stack.append(made)

    def _append(self, values: list[Any]) -> None:
        _of(list, self._stack[-1]).extend(values)

    def _taken(self, count: int) -> list[Any]:
        """The topmost values, removed from the stack."""
        found = self._stack[-count:]
        if len(found) < count or any(value is _MARK for value in found):
            raise ValueError("its pickle takes what is not there")
        del self._stack[-count:]
        return found

    def _since_mark(self) -> list[Any]:
        """The values above the topmost mark, removed from the stack together with
        it."""
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                found = self._stack[index + 1 :]
                del self._stack[index:]
                return found
        raise ValueError("its pickle lacks a mark")

    def _set(self, flat: list[Any]) -> None:
        target = _of(dict, self._stack[-1])
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            target[_of(str, key)] = value

    def _storage(self, what: Any, kind: Any, key: Any, *_: Any) -> _Storage:
        """The numbers that a tensor refers to by their member's name."""
        library, _, name = _of(_Name, kind).name.partition(" ")
        if what != "storage" or library != "torch" or name not in STORAGES:
            raise ValueError(f"it holds a {library}.{name}"[:80])
        dtype, as_type = STORAGES[name]
        member = f"data/{_of(str, key)}"
        if member not in self._storages:
            numbers = np.frombuffer(self._members[member], dtype)
            self._storages[member] = _Storage(numbers, as_type)
        return self._storages[member]


def _check(value: Any) -> None:
    """Raise a ValueError if a tree contains anything but values."""
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
        elif isinstance(one, _Name):
            raise ValueError(f"it holds {one.name.replace(' ', '.')}"[:90])
        elif isinstance(one, _Storage) or one is _MARK:
            raise ValueError("it holds parts of a tensor")


def _of(kind: type, value: Any) -> Any:
    """The value, which must have a certain type."""
    if not isinstance(value, kind):
        raise ValueError(f"its pickle takes a {type(value).__name__} for another kind")
    return value


def _made(what: _Name, arguments: tuple[Any, ...]) -> Any:
    """The result of calling one of the two known functions."""
    if what.name == ORDERED and not arguments:
        return {}
    if what.name == TENSOR:
        storage, offset, size, stride = arguments[:4]
        return _tensor(_of(_Storage, storage), offset, size, stride)
    raise ValueError(f"it calls {what.name.replace(' ', '.')}"[:90])


def _tensor(storage: _Storage, offset: int, size: Any, stride: Any) -> mx.array:
    """A view of a storage, as an array of its own."""
    numbers, sizes, strides = storage.numbers, _of(tuple, size), _of(tuple, stride)
    whole = all(type(n) is int and n >= 0 for n in (offset, *sizes, *strides))
    if not whole or len(sizes) != len(strides) or len(sizes) > MAX_RANK:
        raise ValueError("a tensor has a shape that cannot be")
    count = math.prod(sizes)
    last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
    if count and (count > len(numbers) or last >= len(numbers)):
        raise ValueError("a tensor is larger than its numbers")
    steps = [step * numbers.itemsize for step in strides] if count else None
    view = np.lib.stride_tricks.as_strided(numbers[offset:], sizes, steps)
    array = mx.array(np.ascontiguousarray(view).reshape(sizes))
    return array if storage.kind is None else array.view(storage.kind)
