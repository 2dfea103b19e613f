"""The interface of codecs."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..models.snapshot import Snapshot

Codes = NDArray[np.int32]  # in whatever shape a docstring says


class Codec(Protocol):
    """Sound to codes and back, one or more frames at a time; holds its streams' state.

    Used by one thread at a time. Arrays are NumPy: pcm float32 ``[B, 1, S]`` from -1 to
    1, S a positive multiple of ``frame_size``; codes int32 ``[B, K, T]``.
    """

    @property
    def sample_rate(self) -> int:
        """Hz."""
        ...

    @property
    def frame_size(self) -> int:
        """Samples per code frame."""
        ...

    @property
    def num_codebooks(self) -> int:
        """K."""
        ...

    @property
    def batch_size(self) -> int:
        """Streams side by side, B."""
        ...

    def encode_step(self, pcm: np.ndarray) -> np.ndarray:
        """Codes of the streams' next frames.

        Raises: ValueError for a partial frame or another batch size.
        """
        ...

    def decode_step(self, codes: np.ndarray) -> np.ndarray:
        """Sound of the streams' next code frames.

        Raises: ValueError for invalid codes, or another batch size.
        """
        ...

    def reset(self) -> None:
        """Begin new streams."""
        ...

    def snapshot(self) -> Snapshot:
        """What the streams remember.

        Raises: ConfigError for a codec whose state cannot be read.
        """
        ...

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot.

        Raises: ConfigError for a snapshot of another codec or number of streams, and
            for a codec that cannot do it.
        """
        ...


def check_codes(codes: np.ndarray, bins: int) -> None:
    """Raise a ValueError for a number that is no code: it would read foreign memory."""
    if codes.size and (codes.min() < 0 or codes.max() >= bins):
        raise ValueError(
            f"got codes from {codes.min()} to {codes.max()}: a codebook has 0 to "
            f"{bins - 1}."
        )
