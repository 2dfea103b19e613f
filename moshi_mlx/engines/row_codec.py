"""One codec for a batch of streams whose rows come and go."""

from collections.abc import Callable, Mapping
from typing import Protocol

import mlx.core as mx
import numpy as np

from ..audio.samples import Pcm
from ..codec import Codec, NativeCodec
from ..codec.base import Codes
from ..models.snapshot import Snapshot


class RowCodec(Protocol):
    """A stream per row; rows that are not given pause."""

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
        """What a row remembers.

        Raises: ConfigError for a codec that cannot tell.
        """
        ...

    def restore(self, row: int, snapshot: Snapshot) -> None:
        """Continue a row from a snapshot.

        Raises: ConfigError for one of another codec, and for a codec that cannot.
        """
        ...

    def encode(self, frames: Mapping[int, Pcm]) -> dict[int, Codes]:
        """Codes ``[K]`` of the next frame ``[S]`` of some rows."""
        ...

    def decode(self, codes: Mapping[int, Codes]) -> dict[int, Pcm]:
        """Sound ``[S]`` of the next codes ``[K]`` of some rows."""
        ...


class SeparateCodecs:
    """A codec for each row, one after another.

    Args:
        make: a codec with fresh state.
        rows: how many.
    """

    def __init__(self, make: Callable[[], Codec], rows: int):
        self._make = make
        self.codecs = [make() for _ in range(rows)]

    @property
    def sample_rate(self) -> int:
        return self.codecs[0].sample_rate

    @property
    def frame_size(self) -> int:
        return self.codecs[0].frame_size

    def begin(self, row: int) -> None:
        self.codecs[row] = self._make()

    def snapshot(self, row: int) -> Snapshot:
        return self.codecs[row].snapshot()

    def restore(self, row: int, snapshot: Snapshot) -> None:
        self.codecs[row].restore(snapshot)

    def encode(self, frames: Mapping[int, Pcm]) -> dict[int, Codes]:
        return {
            row: self.codecs[row].encode_step(frame[None, None])[0, :, 0]
            for row, frame in frames.items()
        }

    def decode(self, codes: Mapping[int, Codes]) -> dict[int, Pcm]:
        return {
            row: self.codecs[row].decode_step(mine[None, :, None])[0, 0]
            for row, mine in codes.items()
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

    def encode(self, frames: Mapping[int, Pcm]) -> dict[int, Codes]:
        pcm = np.zeros((self._codec.batch_size, 1, self.frame_size), np.float32)
        for row, frame in frames.items():
            pcm[row, 0] = frame
        codes = self._codec.encode_step(pcm, self._active(frames))
        return {row: codes[row, :, 0] for row in frames}

    def decode(self, codes: Mapping[int, Codes]) -> dict[int, Pcm]:
        num_codebooks = len(next(iter(codes.values())))
        joined = np.zeros((self._codec.batch_size, num_codebooks, 1), np.int32)
        for row, mine in codes.items():
            joined[row, :, 0] = mine
        pcm = self._codec.decode_step(joined, self._active(codes))
        return {row: pcm[row, 0] for row in codes}

    def _active(self, rows: Mapping[int, object]) -> list[bool] | None:
        active = [row in rows for row in range(self._codec.batch_size)]
        return None if all(active) else active


def make_row_codec(
    make: Callable[[], Codec], rows: int, joint: bool | None
) -> RowCodec:
    """A codec for ``rows`` streams.

    Args:
        make: a codec with fresh state.
        joint: step all rows together, which only the native codec can. None: where MLX
            computes on a GPU; a CPU gains nothing by it, and rows that pause cost time.
    """
    if joint is None:
        joint = mx.default_device().type == mx.DeviceType.gpu
    codec = make()
    if joint and rows > 1 and isinstance(codec, NativeCodec):
        return JointCodec(NativeCodec(codec.mimi, rows))
    return SeparateCodecs(make, rows)
