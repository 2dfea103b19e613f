"""Classifier-free guidance: a batch runs twice, with its condition and without."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlx.core as mx

from ..modules.attention import Condition
from ..modules.conditioner import (
    ConditionTensor,
    TensorCondition,
    TensorConditioner,
)

if TYPE_CHECKING:
    from .lm import Lm


@dataclass
class Prepared:
    """Conditions of all rows that run: the batch, and with guidance its null half."""

    ct: ConditionTensor | None
    cross: Condition | None


class Guidance:
    """``logits = null + coef * (conditioned - null)``, for text and every codebook.

    Args:
        coef: 1 runs the batch once.
        masked_until: per row, hide the null half's input until this step (+ delay).
        no_text: the null half reads no text, and the text is not guided.

    Source: kyutai-labs/moshi, models/lm.py:LMGen.
    """

    def __init__(
        self,
        model: "Lm",
        coef: float,
        masked_until: Sequence[int] | None = None,
        no_text: bool = False,
    ):
        self.model = model
        self.coef = coef
        self.doubles = coef != 1.0
        self.no_text = no_text
        self.masked_until = None if masked_until is None else list(masked_until)
        cfg = model.cfg
        self._delays = mx.array([cfg.text_delay, *cfg.audio_delays])[:, None]
        self._given: tuple[ConditionTensor | None, Condition | None] = None, None
        self._prepared = Prepared(None, None)

    def prepare(
        self, ct: ConditionTensor | None, cross: Condition | None, b: int
    ) -> Prepared:
        """Conditions with their null half; computed once for the same conditions."""
        if not self.doubles:
            return Prepared(ct, cross)
        if self._given[0] is not ct or self._given[1] is not cross:
            self._given = ct, cross
            sums, crosses = self._both_sums(ct, b), self._both_crosses(cross, b)
            self._prepared = Prepared(sums, crosses)
        return self._prepared

    def _both_sums(self, ct: ConditionTensor | None, b: int) -> ConditionTensor | None:
        if ct is None or ct.tensor.shape[0] == 2 * b:
            return ct
        tensor = ct.tensor if ct.tensor.ndim == 3 else ct.tensor[:, None]
        provider = self.model.condition_provider
        null = None if provider is None else provider.null()
        empty = mx.zeros_like(tensor[:1]) if null is None else null.tensor[:, None]
        shape = (b, *tensor.shape[1:])
        halves = [mx.broadcast_to(half, shape) for half in (tensor, empty)]
        return ConditionTensor(mx.concatenate(halves))

    def _both_crosses(self, cross: Condition | None, b: int) -> Condition | None:
        if cross is None or cross.shape[0] == 2 * b:
            return cross
        assert isinstance(cross, mx.array)  # a masked one comes with its null half
        shape = (b, *cross.shape[1:])
        halves = [mx.broadcast_to(half, shape) for half in (cross, self._null(cross))]
        return mx.concatenate(halves)

    def _null(self, cross: mx.array) -> mx.array:
        """The null condition, with as many positions as ``cross``."""
        provider = self.model.condition_provider
        known = [] if provider is None else list(provider.conditioners.values())
        attended = [c for c in known if isinstance(c, TensorConditioner)]
        if not attended:
            return mx.zeros_like(cross[:1])
        if len(attended) > 1:
            raise ValueError(
                f"the model attends to {len(attended)} conditions, so their nulls "
                "cannot be told from cross_attention_src: give it 2B rows, "
                "[conditions; nulls]."
            )
        values = mx.zeros((1, cross.shape[1], attended[0].input_dim))
        mask = mx.zeros((1, cross.shape[1]), mx.uint8)
        null = attended[0].condition(TensorCondition(values, mask))
        return null.astype(cross.dtype)

    def inputs(
        self, text: mx.array, audio: mx.array | None, offsets: Sequence[int]
    ) -> tuple[mx.array, mx.array | None]:
        """The rows that run, for ``text [B, T]`` and ``audio [B, n_q, T]``.

        Args:
            offsets: the call of each row that reads the first of the T columns.
        """
        if not self.doubles:
            return text, audio
        count = range(text.shape[1])
        calls = mx.array([[[offset + i for i in count]] for offset in offsets])
        started = calls > self._delays  # [B, 1 + n_q, T]
        null_text, null_audio = text, audio
        if self.masked_until is not None:
            until = mx.array(self.masked_until)[:, None, None] + self._delays
            hidden = started & (calls <= until)
            null_text = mx.where(hidden[:, 0], -1, text)
            if audio is not None:
                null_audio = mx.where(hidden[:, 1:], -1, audio)
        if self.no_text:
            null_text = mx.where(started[:, 0], -1, null_text)
        text = mx.concatenate([text, null_text])
        if audio is None or null_audio is None:
            return text, None
        return text, mx.concatenate([audio, null_audio])

    def rows(self, active: list[bool] | None) -> list[bool] | None:
        """Which of the running rows take part."""
        return active * 2 if active is not None and self.doubles else active

    def both(self, tokens: mx.array) -> mx.array:
        """The same tokens for both halves."""
        return mx.concatenate([tokens, tokens]) if self.doubles else tokens

    def logits(self, logits: mx.array) -> mx.array:
        """``[2B, 1, V] -> [B, 1, V]``."""
        return guided(logits, self.coef) if self.doubles else logits

    def text_logits(self, logits: mx.array) -> mx.array:
        if self.doubles and self.no_text:
            return mx.split(logits, 2)[0]
        return self.logits(logits)


def guided(logits: mx.array, coef: float | mx.array) -> mx.array:
    """``null + coef * (conditioned - null)``: logits ``[2B, 1, V] -> [B, 1, V]``."""
    conditioned, null = mx.split(logits, 2)
    return null + (conditioned - null) * coef
