"""The codec in MLX: endless, batched, of any configuration, on the GPU if it can."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from ..models.mimi import Mimi
from ..models.snapshot import Fits, Snapshot, fingerprint, kept
from .base import check_codes


class NativeCodec:
    """Streams through a ``Mimi``, whose weights any number of codecs share.

    Args:
        batch_size: streams side by side.
    """

    def __init__(self, mimi: Mimi, batch_size: int = 1):
        self.mimi = mimi
        self.state = mimi.make_state(batch_size)

    @property
    def sample_rate(self) -> int:
        return int(self.mimi.sample_rate)

    @property
    def frame_size(self) -> int:
        return self.mimi.frame_size

    @property
    def num_codebooks(self) -> int:
        return self.mimi.num_codebooks

    @property
    def batch_size(self) -> int:
        return self.state.batch_size

    def encode_step(
        self, pcm: np.ndarray, active: Sequence[bool] | None = None
    ) -> np.ndarray:
        """Like ``Codec.encode_step``; streams that are not ``active`` pause."""
        return np.array(self.start_encode(pcm, active))

    def decode_step(
        self, codes: np.ndarray, active: Sequence[bool] | None = None
    ) -> np.ndarray:
        """Like ``Codec.decode_step``; K may be 1 to ``num_codebooks``, and streams that
        are not ``active`` pause."""
        check_codes(codes, self.mimi.cfg.quantizer_bins)
        return np.array(self.start_decode(mx.array(codes), active))

    def start_encode(
        self, pcm: np.ndarray, active: Sequence[bool] | None = None
    ) -> mx.array:
        """Like ``encode_step``, without waiting for the codes."""
        codes = self.mimi.encode_step(mx.array(pcm), self.state, active=active)
        mx.async_eval(codes, self.state.encoder.arrays)
        return codes

    def start_decode(
        self, codes: mx.array, active: Sequence[bool] | None = None
    ) -> mx.array:
        """Like ``decode_step``, without waiting for the sound, nor for codes that are
        still being computed. The codes are not checked: pass only a model's own."""
        pcm = self.mimi.decode_step(codes, self.state, active=active)
        pcm = pcm.astype(mx.float32)
        mx.async_eval(pcm, self.state.decoder.arrays)
        return pcm

    @property
    def fits(self) -> Fits:
        """What must be equal for a snapshot to be continued."""
        return {"codec": fingerprint(self.mimi), "rows": self.batch_size}

    def snapshot(self, row: int | None = None) -> Snapshot:
        """What the streams remember in both directions, all of them or one."""
        fits = self.fits if row is None else {**self.fits, "rows": 1}
        return Snapshot("codec", fits, kept(self.state.snapshot(row)))

    def restore(self, snapshot: Snapshot, row: int | None = None) -> None:
        """Continue from a snapshot; with ``row``, one stream while the others continue.

        Raises: ConfigError for one of another codec or number of streams.
        """
        fits = self.fits if row is None else {**self.fits, "rows": 1}
        snapshot.check("codec", fits)
        self.state.restore(kept(snapshot.state), row)

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Start new streams, in all rows or in some while the others continue."""
        self.state.reset(rows)
