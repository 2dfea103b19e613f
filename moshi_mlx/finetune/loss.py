"""The loss of training: weighted cross-entropies of text and of the model's sound.

Both are means over the whole batch, and text weighs as much as sound. If several
processes share a batch, each holds a part of the sums and divides by the total weight
of all, so that the sum is the loss of the whole batch.
Source: kyutai-labs/moshi-finetune, finetune/loss.py and train.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn

from ..models.lm import Lm

LONGEST = 4096  # most steps of a window (327 s), which run at once
Add = Callable[[mx.array], mx.array]  # the sum over all processes


def alone(x: mx.array) -> mx.array:
    """The sum over one process."""
    return x


@dataclass(frozen=True)
class LossWeights:
    """How much each token counts.

    Attributes:
        first_codebook: weight of the semantic codebook; the acoustic ones have 1.
        text_padding: weight of text padding; words have 1.
        own_streams: audio streams of the model's side. Later ones that it predicts too
            (PersonaPlex: the user's) do not count. None: all count.
    """

    first_codebook: float = 100.0
    text_padding: float = 0.5
    own_streams: int | None = None

    def text(self, lm: Lm, tokens: mx.array) -> mx.array:
        """Weights of text tokens ``[B, 1, T]``."""
        padding, end = lm.cfg.silent_text
        silent = (tokens == padding) | (tokens == end)
        return mx.where(silent, self.text_padding, 1.0)

    def audio(self, count: int) -> mx.array:
        """Weights of the streams that the model predicts, ``[count, 1]``."""
        streams = mx.arange(count)
        weights = mx.where(streams == 0, self.first_codebook, 1.0)
        if self.own_streams is not None:
            weights = mx.where(streams < self.own_streams, weights, 0.0)
        return weights[:, None]


class Losses(NamedTuple):
    """This process's share of a batch's loss, and the number of tokens that count."""

    total: mx.array
    text: mx.array
    audio: mx.array
    tokens: mx.array


def losses(
    lm: Lm,
    codes: mx.array,
    weights: LossWeights,
    conditions: Sequence[Any] = (),
    add: Add = alone,
    start: mx.array | None = None,
    embedded: mx.array | None = None,
    embedded_steps: mx.array | None = None,
) -> Losses:
    """Losses of given streams, differentiable.

    Args:
        codes: ``[B, 1 + n_q, T]``, text first, not delayed; -1 does not count.
        conditions: as in ``Lm.teacher_forced``.
        add: sums over the processes that share the batch.
        start: int32 ``[B]``, the first frame of each row that counts; None: all count.
        embedded, embedded_steps: as ``Lm.hidden`` takes them.
    """
    prefix = {"embedded": embedded, "embedded_steps": embedded_steps}
    out = lm.teacher_forced(codes, *conditions, chunk=LONGEST, **prefix)
    told, begun = codes[:, :1], mx.array(True)
    if start is not None:
        begun = mx.arange(codes.shape[2]) >= start[:, None, None]
    text_mask = out.text_mask & begun
    text, tokens = _mean(out.text_logits, told, text_mask, weights.text(lm, told), add)
    audio = mx.array(0.0)
    if out.audio_logits is not None and out.audio_mask is not None:
        streams = out.audio_logits.shape[1]
        each, targets = weights.audio(streams), codes[:, 1 : 1 + streams]
        mask = out.audio_mask & (each > 0) & begun
        audio, count = _mean(out.audio_logits, targets, mask, each, add)
        tokens = tokens + count
    return Losses(text + audio, text, audio, tokens)


def _mean(
    logits: mx.array, targets: mx.array, mask: mx.array, weights: mx.array, add: Add
) -> tuple[mx.array, mx.array]:
    """The weighted mean of the cross-entropies in the ``mask``, and their number."""
    weights = weights * mask
    each = nn.losses.cross_entropy(
        logits.astype(mx.float32), mx.where(mask, targets, 0)
    )
    total = add(mx.stop_gradient(weights.sum()))
    return (each * weights).sum() / mx.maximum(total, 1e-9), mask.sum()
