"""Files of codes: ``.npz`` for NumPy, ``.safetensors`` for everything else.

Both hold ``codes``, int32 ``[K, T]``, and beside them ``sample_rate``, ``frame_rate``
and ``samples``, the length of the sound, so that decoding can cut its padding off.
"""

import tokenize
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...errors import CheckpointError, ConfigError
from ...utils.tensor_files import read_tensors
from ...utils.whole_files import whole_file
from .checks import Codes

FORMS = ("npz", "safetensors")
NAMES = ("codes", "audio_codes")  # the second is the transformers library's
DAMAGED = (CheckpointError, ValueError, OSError, KeyError, EOFError, BadZipFile)
# What NumPy and zipfile raise for damaged arrays, and for sizes that make no sense.
DAMAGED += (MemoryError, NotImplementedError, RuntimeError, SyntaxError, TypeError)
DAMAGED += (tokenize.TokenError, zlib.error)
MOST_BYTES = 512 << 20  # unpacked: three days of sound in 32 codebooks
FACTS = ("sample_rate", "frame_rate", "samples")


@dataclass(frozen=True)
class CodeFile:
    """Codes with everything that is needed to decode them.

    Attributes:
        codes: int32 ``[K, T]``.
        sample_rate: the codec's, in Hz.
        frame_rate: columns of ``codes`` per second.
        samples: length of the sound; None if the file does not say.
    """

    codes: Codes
    sample_rate: float
    frame_rate: float
    samples: int | None = None

    def fits(self, sample_rate: float, frame_rate: float) -> bool:
        """Whether a codec of these rates made it; unknown rates fit every codec."""
        near = not self.frame_rate or abs(self.frame_rate - frame_rate) <= 1e-3
        return near and self.sample_rate in (0.0, sample_rate)


def write_codes(path: Path, held: CodeFile) -> None:
    """Write a file of codes, in the format of its name's ending.

    Raises: ConfigError for another format, OSError if it cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {
        "codes": held.codes.astype(np.int32),
        "sample_rate": np.array(held.sample_rate, np.float32),
        "frame_rate": np.array(held.frame_rate, np.float32),
    }
    if held.samples is not None:
        arrays["samples"] = np.array(held.samples, np.int32)
    form = form_of(path)
    with whole_file(path) as begun:
        if form == "npz":
            with begun.open("wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            return
        data = {name: mx.array(array) for name, array in arrays.items()}
        with begun.open("wb") as file:
            mx.save_safetensors(file, data)


def read_codes(path: Path) -> CodeFile:
    """Read a file of codes, ours or one with a tensor ``codes`` or ``audio_codes``.

    Raises: ConfigError if the file does not hold codes.
    """
    form = form_of(path)
    if not path.is_file():
        raise ConfigError(f"there is no file {str(path)!r}: check its path.")
    try:
        arrays = _npz(path) if form == "npz" else _safetensors(path)
    except DAMAGED as error:
        words = " ".join(str(error).split())[:160].rstrip(".")
        raise ConfigError(f"{str(path)!r} is no file of codes: {words}.") from error
    name = next((name for name in NAMES if name in arrays), None)
    if name is None:
        raise ConfigError(
            f"{str(path)!r} has no array named codes: expected whole numbers [K, T]."
        )
    codes = arrays[name]
    if codes.ndim == 3 and len(codes) == 1:
        codes = codes[0]
    if codes.ndim != 2 or codes.dtype.kind not in "iu" or not codes.size:
        raise ConfigError(
            f"{str(path)!r} holds {codes.dtype} {list(codes.shape)}: expected whole "
            "numbers [K, T], K codebooks and T frames."
        )
    facts = {key: _fact(arrays.get(key)) for key in FACTS}
    samples = facts["samples"]
    return CodeFile(
        codes.astype(np.int64).clip(-1, 2**31 - 1).astype(np.int32),
        facts["sample_rate"] or 0.0,
        facts["frame_rate"] or 0.0,
        None if samples is None else int(samples),
    )


def form_of(path: Path) -> str:
    """The format by a name's ending. Raises: ConfigError for another one."""
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMS:
        raise ConfigError(
            f"{path} is not a name for codes: it must end in .npz or .safetensors."
        )
    return form


def _npz(path: Path) -> dict[str, NDArray[Any]]:
    wanted = {*NAMES, *FACTS}
    with path.open("rb") as file:
        if not is_zipfile(file):  # NumPy would speak of pickles
            file.seek(0)
            single = file.read(6) == b"\x93NUMPY"
            raise ValueError(
                "it is a single array (.npy)" if single else "it is damaged"
            )
        with ZipFile(file) as archive:
            members = {e.filename.removesuffix(".npy"): e for e in archive.infolist()}
        if sum(e.file_size for n, e in members.items() if n in wanted) > MOST_BYTES:
            raise ValueError(f"its arrays take more than {MOST_BYTES >> 20} MiB")
        file.seek(0)
        held = np.load(file, allow_pickle=False)
        return {name: held[name] for name in held.files if name in wanted}


def _safetensors(path: Path) -> dict[str, NDArray[Any]]:
    wanted = {*NAMES, *FACTS}
    tensors = read_tensors(path)
    return {name: np.array(w) for name, w in tensors.items() if name in wanted}


def _fact(array: NDArray[Any] | None) -> float | None:
    """A number from a file, if it is there and valid."""
    if array is None or array.size != 1 or array.dtype.kind not in "iuf":
        return None
    value = float(array.reshape(()))
    return value if 0 < value < 2**40 else None
