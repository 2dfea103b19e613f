"""One codec for a batch of streams whose rows come and go.

Sound and codes are MLX arrays that may still be computing: a model's step can be built
on codes, and the decoder on the step's codes, before anything is waited for.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import mlx.core as mx
import numpy as np

from ..audio.samples import Pcm
from ..codec import Codec, NativeCodec
from ..errors import ConfigError
from ..models.lm import Lm
from ..models.snapshot import Snapshot


class RowCodec(Protocol):
    """A stream per row; rows that are not in a call pause."""

    @property
    def sample_rate(self) -> int:
        """Hz."""
        ...

    @property
    def frame_size(self) -> int:
        """Samples per frame."""
        ...

    def begin(self, row: int) -> None:
        """Make ``row`` a new stream."""
        ...

    def snapshot(self, row: int) -> Snapshot:
        """A row's state.

        Raises: ConfigError for a codec whose state cannot be read.
        """
        ...

    def restore(self, row: int, snapshot: Snapshot) -> None:
        """Continue a row from a snapshot.

        Raises: ConfigError for a snapshot of another codec, and for a codec that cannot
            do it.
        """
        ...

    def encode(self, frames: Mapping[int, Pcm]) -> mx.array:
        """Codes ``[rows, K]`` of the next frame ``[S]`` of some rows; those of the
        other rows have no meaning."""
        ...

    def decode(self, codes: mx.array, rows: Sequence[int]) -> dict[int, mx.array]:
        """Sound ``[S]`` of the next codes of some rows, from ``[rows, K]``."""
        ...


class SeparateCodecs:
    """A codec for each row, one after another.

    Args:
        make: returns a codec with fresh state.
        rows: number of rows.
        first: the first row's codec, with fresh state.
    """

    def __init__(self, make: Callable[[], Codec], rows: int, first: Codec):
        self.codecs = [first, *(make() for _ in range(rows - 1))]

    @property
    def sample_rate(self) -> int:
        return self.codecs[0].sample_rate

    @property
    def frame_size(self) -> int:
        return self.codecs[0].frame_size

    def begin(self, row: int) -> None:
        self.codecs[row].reset()

    def snapshot(self, row: int) -> Snapshot:
        return self.codecs[row].snapshot()

    def restore(self, row: int, snapshot: Snapshot) -> None:
        self.codecs[row].restore(snapshot)

    def encode(self, frames: Mapping[int, Pcm]) -> mx.array:
        codes = {
            row: _start_encode(self.codecs[row], frame[None, None])[..., 0]
            for row, frame in frames.items()
        }
        if len(self.codecs) == 1:
            return codes[0]
        nothing = mx.zeros_like(next(iter(codes.values())))
        rows = range(len(self.codecs))
        return mx.concatenate([codes.get(row, nothing) for row in rows])

    def decode(self, codes: mx.array, rows: Sequence[int]) -> dict[int, mx.array]:
        return {
            row: _start_decode(self.codecs[row], codes[row : row + 1, :, None])[0, 0]
            for row in rows
        }


class JointCodec:
    """One step for all rows, which on a GPU takes hardly longer than for one."""

    def __init__(self, codec: NativeCodec):
        self._codec = codec

    @property
    def sample_rate(self) -> int:
        return self._codec.sample_rate

    @property
    def frame_size(self) -> int:
        return self._codec.frame_size

    def begin(self, row: int) -> None:
        self._codec.reset([row])

    def snapshot(self, row: int) -> Snapshot:
        return self._codec.snapshot(row)

    def restore(self, row: int, snapshot: Snapshot) -> None:
        self._codec.restore(snapshot, row)

    def encode(self, frames: Mapping[int, Pcm]) -> mx.array:
        pcm = np.zeros((self._codec.batch_size, 1, self.frame_size), np.float32)
        for row, frame in frames.items():
            pcm[row, 0] = frame
        return self._codec.start_encode(pcm, self._active(frames))[..., 0]

    def decode(self, codes: mx.array, rows: Sequence[int]) -> dict[int, mx.array]:
        # rows that pause may hold invalid codes, which must not be looked up
        known = mx.maximum(codes, 0)[..., None]
        pcm = self._codec.start_decode(known, self._active(rows))
        return {row: pcm[row, 0] for row in rows}

    def _active(self, rows: Collection[int]) -> list[bool] | None:
        active = [row in rows for row in range(self._codec.batch_size)]
        return None if all(active) else active


def _start_encode(codec: Codec, pcm: Pcm) -> mx.array:
    """Codes ``[B, K, T]``; MLX codecs do not wait for them."""
    if isinstance(codec, NativeCodec):
        return codec.start_encode(pcm)
    return mx.array(codec.encode_step(pcm))


def _start_decode(codec: Codec, codes: mx.array) -> mx.array:
    """Sound ``[B, 1, S]``, likewise; other codecs have to wait for the codes."""
    if isinstance(codec, NativeCodec):
        return codec.start_decode(codes)
    return mx.array(codec.decode_step(np.array(codes, np.int32)))


def make_row_codec(
    make: Callable[[], Codec], rows: int, joint: bool | None, lm: Lm
) -> RowCodec:
    """A codec for ``rows`` streams.

    Args:
        make: returns a codec with fresh state.
        lm: its codes are decoded, and it hears the codec's codes.
        joint: step all rows together, which only the native codec can. None: only if
            MLX computes on a GPU; a CPU gains nothing from it, and paused rows cost
            time.

    Raises: ConfigError for a codec with fewer codes than the model says: nothing
        checks them in between.
    """
    if joint is None:
        joint = mx.default_device().type == mx.DeviceType.gpu
    codec = make()
    if isinstance(codec, NativeCodec):
        known, said = codec.mimi.cfg.quantizer_bins, lm.cfg.audio_vocab_size - 1
        if lm.cfg.generated_codebooks and said > known:
            raise ConfigError(
                f"the model says codes up to {said - 1}, and the codec knows those up "
                f"to {known - 1}: they do not belong together."
            )
    if joint and rows > 1 and isinstance(codec, NativeCodec):
        return JointCodec(NativeCodec(codec.mimi, rows))
    return SeparateCodecs(make, rows, codec)
