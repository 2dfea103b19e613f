"""Checks of codes and numbers of codebooks that users pass."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...codec.base import Codes
from ...errors import ConfigError


def checked_count(called: str, count: int | None, most: int) -> int:
    """A valid number of codebooks; ``called`` is the function that errors name."""
    if count is None:
        return most
    if not 1 <= count <= most:
        raise ConfigError(f"{called} got num_codebooks={count}: give 1 to {most}.")
    return int(count)


def checked_codes(called: str, codes: NDArray[Any], most: int, bins: int) -> Codes:
    """Codes ``[K, T]`` or ``[B, K, T]`` as int32, K from 1 to ``most``."""
    codes = np.asarray(codes)
    if (
        codes.ndim not in (2, 3)
        or codes.dtype.kind not in "iu"
        or not 1 <= codes.shape[-2] <= most
    ):
        raise ConfigError(
            f"{called} got {codes.dtype} {list(codes.shape)}: give whole numbers [K, T]"
            f" or [B, K, T], K from 1 to {most}."
        )
    if codes.size and not (codes.min() >= 0 and codes.max() < bins):
        raise ConfigError(
            f"{called} got codes from {codes.min()} to {codes.max()}: a codebook has 0 "
            f"to {bins - 1}."
        )
    return codes.astype(np.int32)
