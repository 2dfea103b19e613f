"""Acoustic delays: stream k of a frame is written ``delay_k`` steps later."""

from collections.abc import Sequence

import mlx.core as mx


def delay_sequence(
    codes: mx.array, delays: Sequence[int], initial: mx.array
) -> mx.array:
    """Aligned codes ``[B, K, T]`` to delayed ones; ``initial [1, K, 1]`` precedes them.

    The last ``delay_k`` codes of stream k fall off the end.
    """
    t = codes.shape[2]
    rows = []
    for k, delay in enumerate(delays):
        delay = min(delay, t)
        before = mx.broadcast_to(initial[:, k], (codes.shape[0], delay))
        rows.append(mx.concatenate([before, codes[:, k, : t - delay]], axis=1))
    return mx.stack(rows, axis=1)


def undelay_sequence(
    logits: mx.array, delays: Sequence[int], codes: mx.array
) -> tuple[mx.array, mx.array]:
    """Delayed logits ``[B, K, T, V]`` to aligned ones, and their mask ``[B, K, T]``.

    The mask is false and the logits are 0 for the last ``delay_k`` steps of stream k,
    and wherever the code ``[B, K, T]`` is -1.
    """
    b, _, t, v = logits.shape
    rows, masks = [], []
    for k, delay in enumerate(delays):
        delay = min(delay, t)
        after = mx.zeros((b, delay, v), logits.dtype)
        rows.append(mx.concatenate([logits[:, k, delay:], after], axis=1))
        masks.append(mx.broadcast_to(mx.arange(t) < t - delay, (b, t)))
    mask = mx.stack(masks, axis=1) & (codes != -1)
    zero = mx.zeros((), logits.dtype)
    return mx.where(mask[..., None], mx.stack(rows, axis=1), zero), mask
