"""The codec in Rust: Kyutai's ``rustymimi`` wheel, on the CPU, imported on use.

Its limits, as found in 0.4.1, and how they are handled here: a stream ends with an
error after ``max_seq_len / 2`` frames (we ask for hours, and say so in a sentence at
the end); ``reset`` leaves the end of the old stream in front of the new one (we make a
new engine); two threads at once fail (they take turns); it loads only the released
shape of Mimi, and wants every code of a frame.
"""

from importlib import import_module
from os import PathLike
from threading import Lock
from typing import Any, NoReturn

import numpy as np

from ..audio.framing import FRAME, SAMPLE_RATE
from ..errors import CheckpointError, ConfigError
from ..models.snapshot import Snapshot
from ..utils.extras import require
from .base import check_codes

# Built into rustymimi, besides the sample rate and the size of a frame.
POSITIONS = 2  # of its transformers per frame
BINS = 2048  # codes of a codebook
CODEBOOKS = 32
INSTEAD = ", with Python below 3.14, or use the native codec"
# Each position costs 512 bytes and 4 microseconds when an engine is made.
HOURS = 2.0


class RustCodec:
    """Streams of one ``rustymimi.Tokenizer``.

    Args:
        weights: a released Mimi file (``tokenizer-...-checkpoint125.safetensors``).
        num_codebooks: codes per frame.
        batch_size: streams side by side.
        hours: how long a stream may last before a ``reset``.

    Raises: ConfigError if rustymimi is not installed or cannot give so many
        codebooks, CheckpointError for weights that it cannot read.
    """

    sample_rate = SAMPLE_RATE
    frame_size = FRAME

    def __init__(
        self,
        weights: str | PathLike[str],
        num_codebooks: int = 8,
        batch_size: int = 1,
        hours: float = HOURS,
    ):
        if not 1 <= num_codebooks <= CODEBOOKS:
            raise ConfigError(
                f"{num_codebooks} codebooks are not possible with rustymimi: give 1 to "
                f"{CODEBOOKS}."
            )
        self.weights = str(weights)
        self.num_codebooks = num_codebooks
        self.batch_size = batch_size
        self.max_frames = int(hours * 3600 * SAMPLE_RATE / FRAME)
        self._lock = Lock()
        self._encoded = self._decoded = 0  # frames
        self._engine = self._make_engine()

    def encode_step(self, pcm: np.ndarray) -> np.ndarray:
        pcm = np.ascontiguousarray(pcm, np.float32)
        self._check_shape(pcm, 1)
        samples = pcm.shape[-1]
        if not samples or samples % FRAME:
            raise ValueError(
                f"encode_step got {samples} samples: it takes whole frames of {FRAME}, "
                "so collect them first."
            )
        with self._lock:
            self._encoded = self._count(self._encoded, samples // FRAME)
            return self._engine.encode_step(pcm).astype(np.int32)

    def decode_step(self, codes: np.ndarray) -> np.ndarray:
        self._check_shape(codes, self.num_codebooks)
        check_codes(codes, BINS)
        if not codes.shape[-1]:
            raise ValueError("decode_step got no frames: give at least one.")
        with self._lock:
            self._decoded = self._count(self._decoded, codes.shape[-1])
            return self._engine.decode_step(np.ascontiguousarray(codes, np.uint32))

    def snapshot(self) -> NoReturn:
        """Refused: what rustymimi remembers cannot be read."""
        raise ConfigError(
            "the rust codec cannot save what it remembers: use --codec native."
        )

    def restore(self, snapshot: Snapshot) -> NoReturn:  # noqa: ARG002
        """Refused: what rustymimi remembers cannot be set."""
        raise ConfigError(
            "the rust codec cannot continue from a snapshot: use --codec native."
        )

    def reset(self) -> None:
        with self._lock:
            if self._encoded or self._decoded:
                self._engine = self._make_engine()
                self._encoded = self._decoded = 0

    def _make_engine(self) -> Any:
        require("rust", "the rust codec", INSTEAD)
        rustymimi = import_module("rustymimi")
        try:
            return rustymimi.Tokenizer(
                self.weights,
                num_codebooks=self.num_codebooks,
                max_seq_len=POSITIONS * self.max_frames,
            )
        except ValueError as error:
            reason = str(error).partition("\n")[0]  # a Rust backtrace follows
            raise CheckpointError(
                f"the rust codec cannot load {self.weights} ({reason}): it needs a "
                "released Mimi file; others run with the native codec."
            ) from error

    def _check_shape(self, x: np.ndarray, channels: int) -> None:
        if x.ndim != 3 or x.shape[:2] != (self.batch_size, channels):
            raise ValueError(
                f"the rust codec got an array of shape {x.shape}: it takes "
                f"[{self.batch_size}, {channels}, ...] here."
            )

    def _count(self, so_far: int, new: int) -> int:
        if so_far + new > self.max_frames:
            hours = self.max_frames * FRAME / SAMPLE_RATE / 3600
            raise ConfigError(
                f"a stream of the rust codec lasts {hours:g} hours and this one is "
                "over: reset it, or use the native codec, which has no end."
            )
        return so_far + new
