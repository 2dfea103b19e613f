"""Frames that are known ahead of time, read one by one or many at once.

A voice to imitate, a persona in words, text that was said before, a recording to
continue: these are given instead of generated, and the transformer reads them.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import ArrayLike

from ..modules.attention import Condition
from ..modules.conditioner import ConditionTensor
from ..modules.ring import Ring
from .generation_state import GenerationState
from .given import Tokens, frames_of

CHUNK = 256  # calls that run at once: bounds the mask's memory


class Prefill(GenerationState):
    """A generator whose frames may be given; ``LmGen`` generates the rest."""

    @abstractmethod
    def step(
        self,
        other_audio_tokens: mx.array,
        ct: ConditionTensor | None = None,
        cross_attention_src: Condition | None = None,
        *,
        active: Sequence[bool] | None = None,
    ) -> tuple[mx.array, mx.array]:
        """One call."""

    @abstractmethod
    def _predict(self, hidden: mx.array, active: list[bool] | None) -> mx.array:
        """The text ``[B, 1]`` that a call would have chosen, with its noise."""

    @abstractmethod
    def _sizes(self, row: int) -> tuple[int, int]:
        """How many noise values a row's text and each of its codebooks need."""

    def force(
        self,
        text: ArrayLike | mx.array | None = None,
        own: ArrayLike | mx.array | None = None,
        rows: Sequence[int] | None = None,
    ) -> None:
        """Give frames that the model would otherwise generate, from the next call on.

        They are added after those given before. Each stream keeps its delay: a code of
        stream k given for the next call is used ``delay_k`` calls after it. If all own
        codes of a call are given, the depth transformer does not run. Hooks see only
        sampled tokens.

        Args:
            text: ``[B, T]``; None leaves it to the model.
            own: own codes ``[B, own, T]``, not delayed; None leaves them to the model.
            rows: rows of the batch that text and codes are for; all by default.

        A token of -1 means no token (read as zero), and -2 leaves it to the model.

        Raises: ValueError for tokens of another shape or outside the vocabulary.
        """
        rows = range(self.batch_size) if rows is None else rows
        frames = frames_of(text, own, len(rows), self.main_codebooks)
        for row, mine in zip(rows, frames, strict=True):
            self.streams.given.add(row, mine)

    def stop_forcing(self, rows: Sequence[int] | None = None) -> None:
        """Drop what was given and not used yet: the model generates it instead."""
        for row in range(self.batch_size) if rows is None else rows:
            self.streams.given.clear(row)

    def prefill(
        self,
        other_audio_tokens: ArrayLike | mx.array,
        ct: ConditionTensor | None = None,
        cross_attention_src: Condition | None = None,
        *,
        active: Sequence[bool] | None = None,
        embedded: mx.array | None = None,
        predict: bool = False,
    ) -> mx.array | None:
        """Run T calls of ``step`` at once, as far as their tokens were forced.

        The other calls are stepped one by one. The state afterwards, including random
        state, is the same as after stepping; keys and values may differ by rounding.

        Args:
            other_audio_tokens: ``[B, other, T]``.
            ct, cross_attention_src, active: as in ``step``.
            embedded: ``[B, N, D]``, read by the transformer in the first N calls
                instead of their tokens: a voice that is given as embeddings. All these
                calls must be forced. Not with guidance.
            predict: also find the text that the model would have chosen in each call.

        Returns: that text ``[B, T]``, before ``on_text_hook``; None without
            ``predict``.
        """
        predicted = [mx.zeros((self.batch_size, 0), mx.int32)] if predict else None
        for _ in self.prefilling(
            other_audio_tokens,
            ct,
            cross_attention_src,
            active=active,
            embedded=embedded,
            predicted=predicted,
        ):
            pass
        return None if predicted is None else mx.concatenate(predicted, axis=1)

    def prefilling(
        self,
        other_audio_tokens: ArrayLike | mx.array,
        ct: ConditionTensor | None = None,
        cross_attention_src: Condition | None = None,
        *,
        active: Sequence[bool] | None = None,
        embedded: mx.array | None = None,
        predicted: list[mx.array] | None = None,
    ) -> Iterator[None]:
        """``prefill`` in steps, one per layer: other generators may run between them.

        Args:
            predicted: gets the text ``[B, 1]`` that each call would have chosen.
        """
        other = np.array(other_audio_tokens, dtype=np.int32)
        wanted = self.batch_size, self.streams.other
        if other.ndim != 3 or other.shape[:2] != wanted:
            raise ValueError(
                f"prefill got tokens of shape {list(other.shape)}: give {list(wanted)} "
                "and frames, rows by codebooks of the other side by frames."
            )
        active = None if active is None else list(active)
        start = 0
        while start < other.shape[2]:
            count = min(self.streams.known(active), other.shape[2] - start, CHUNK)
            count = min(count, self.room)
            now = other[:, :, start : start + max(count, 1)]
            pending = 0 if embedded is None else embedded.shape[1] - start
            if pending > 0 and not count:
                raise ValueError(
                    f"prefill got {pending} embeddings for calls that were not forced: "
                    "force what they say."
                )
            here = None
            if embedded is not None and pending > 0:
                here = embedded[:, start : start + count]
            if count > 1 or here is not None or (count and predicted is not None):
                yield from self._reading(
                    now, ct, cross_attention_src, active, here, predicted
                )
            else:
                heard = mx.array(now[..., 0])
                text, _ = self.step(heard, ct, cross_attention_src, active=active)
                if predicted is not None:
                    predicted.append(text)
                yield
            start += now.shape[2]

    @property
    def room(self) -> int:
        """Calls that can run at once: until the key-value cache is full."""
        rings = [layer.self_attn for layer in self.cache]
        return min([CHUNK, *(ring.room for ring in rings if isinstance(ring, Ring))])

    def _reading(
        self,
        other: Tokens,
        ct: ConditionTensor | None,
        cross_attention_src: Condition | None,
        active: list[bool] | None,
        embedded: mx.array | None,
        predicted: list[mx.array] | None,
    ) -> Iterator[None]:
        """Calls without a new token: only the temporal transformer runs."""
        offsets = list(self.streams.offsets)
        said, text, audio = self.streams.read_ahead(other, active)
        guide = self.guidance.prepare(ct, cross_attention_src, self.batch_size)
        text, audio = self.guidance.inputs(text, audio, offsets)
        rows = self.guidance.rows(active)
        hidden = self._network.hidden(
            text, audio, self.cache, guide.ct, guide.cross, rows, embedded
        )
        if predicted is not None:
            for t in range(other.shape[2]):
                predicted.append(self._predict(hidden[:, t : t + 1], active))
                self._remember(said[:, t : t + 1], active)
        else:
            for row in range(self.batch_size):
                if (active is None or active[row]) and any(self._sizes(row)):
                    self.noise.skip(row, other.shape[2])
            self._remember(said, active)
        completed = self.streams.output()
        self._completed = None if completed is None else completed[:, 1:]
        mx.eval(self.streams.tokens)
        for layer in self.cache:  # each needs those before it, and nothing after it
            mx.eval(layer.self_attn.state)
            yield
