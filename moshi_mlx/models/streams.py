"""The token streams of a conversation: a ring of the newest columns, delays applied.

Column t of the ring holds what the model reads in call t. Streams of the other side are
written ``delay`` columns ahead when they are heard; own tokens are written one column
ahead when they are sampled. Source: kyutai-labs/moshi, models/lm.py:LMGen (its cache).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from .config import LmConfig
from .given import NONE, UNKNOWN, Given, GivenFrames, Tokens


class TokenStreams:
    """``B`` rows of one text stream and all audio streams, each row at its own step.

    Args:
        cfg: gives the delays and the initial tokens.
        batch_size: rows B.
        both_sides: the streams that the model foresees count as its own.
    """

    def __init__(self, cfg: LmConfig, batch_size: int, both_sides: bool = False):
        self.delays = [cfg.text_delay, *cfg.audio_delays]
        self.max_delay = cfg.max_delay
        foreseen = cfg.foreseen_codebooks if both_sides else 0
        self.own = 1 + cfg.generated_codebooks + foreseen
        self.other = cfg.other_codebooks - foreseen
        self.audio_card = cfg.audio_vocab_size
        self.offsets = [0] * batch_size
        self._silent = [0] * batch_size  # newest column in which no code was given
        self._columns = self.max_delay + 2
        audio = [cfg.audio_padding_token] * cfg.audio_codebooks
        self._initial = mx.array([cfg.text_initial_token, *audio])[None]
        shape = (batch_size, len(self.delays), self._columns)
        self.tokens = mx.full(shape, -2, dtype=mx.int32)
        self._last: mx.array | None = None
        cards = [cfg.text_in_vocab_size] + [cfg.audio_vocab_size] * (self.own - 1)
        self.given = GivenFrames(self.delays[: self.own], cards, batch_size)

    @property
    def arrays(self) -> list[mx.array]:
        """All arrays of the state, for ``mx.eval``."""
        return [self.tokens, self._initial]

    def snapshot(self, rows: Sequence[int]) -> dict[str, Any]:
        """The rows' columns ``[rows, 1 + n_q, columns]``, steps, and given frames."""
        return {
            "tokens": self.tokens[mx.array(list(rows))],
            "offsets": [self.offsets[row] for row in rows],
            "given": self.given.snapshot(rows),
        }

    def restore(self, state: Mapping[str, Any], rows: Sequence[int]) -> None:
        """Continue from a snapshot's streams."""
        self.tokens[mx.array(list(rows))] = state["tokens"]
        for row, offset in zip(rows, state["offsets"], strict=True):
            self.offsets[row] = self._silent[row] = offset
        self.given.restore(state["given"], rows)
        self._last = None

    def reset(self, rows: Iterable[int]) -> None:
        """Start the given rows again."""
        for row in rows:
            self.offsets[row] = self._silent[row] = 0
            self.given.clear(row)
        self._last = None

    def _index(self, shifts: Sequence[int]) -> mx.array:
        """Columns ``(offset + shift) % columns``: ``[B or 1, len(shifts), 1]``."""
        offsets = self.offsets
        if all(o == offsets[0] for o in offsets):
            offsets = offsets[:1]
        return mx.array(
            [[[(o + s) % self._columns] for s in shifts] for o in offsets],
            dtype=mx.int32,
        )

    def _write(
        self,
        first: int,
        shifts: Sequence[int],
        values: mx.array,
        active: Sequence[bool] | None,
    ) -> None:
        """Write ``values [B, K]`` into streams ``first ..`` of active rows."""
        if not shifts:
            return
        rows = slice(first, first + len(shifts))
        old = self.tokens[:, rows]
        index = mx.broadcast_to(self._index(shifts), (*values.shape, 1))
        new = mx.put_along_axis(old, index, values[..., None], axis=2)
        if active is not None:
            new = mx.where(mx.array(list(active))[:, None, None], new, old)
        if len(shifts) == len(self.delays):
            self.tokens = new
        else:
            self.tokens[:, rows] = new

    def hear(
        self, tokens: mx.array, active: Sequence[bool] | None, check: bool
    ) -> None:
        """Take the other side's frame ``[B, >= other]`` (``[B, 1, >= other]`` too, and
        ``[>= other]`` for a single row)."""
        wanted = (len(self.offsets), self.other)
        if not isinstance(tokens, mx.array):  # NumPy's, as rustymimi returns them
            tokens = mx.array(tokens)
        if tokens.ndim == 1:
            tokens = tokens[None]
        if tokens.ndim == 3 and tokens.shape[1] == 1:
            tokens = tokens[:, 0]  # a codec's codes with time before the codebooks
        if (
            tokens.ndim != 2
            or tokens.shape[0] != wanted[0]
            or tokens.shape[1] < wanted[1]
        ):
            raise ValueError(
                f"step got tokens of shape {tuple(tokens.shape)}: give {list(wanted)}, "
                "rows by codebooks of the other side."
            )
        tokens = tokens[:, : self.other].astype(mx.int32)
        if check and self.other:
            wrong = (tokens < -1) | (tokens >= self.audio_card)
            if wrong.any().item():
                raise ValueError(
                    f"step got tokens {tokens.tolist()}: codes are -1 (none) to "
                    f"{self.audio_card - 1}."
                )
        self._write(self.own, self.delays[self.own :], tokens, active)

    def input(self, active: Sequence[bool] | None) -> tuple[mx.array, mx.array | None]:
        """What the model reads in this call: text ``[B, 1]``, audio ``[B, n_q, 1]``."""
        index = self._index([0])
        if index.shape[0] == 1:
            now = self.tokens[:, :, self.offsets[0] % self._columns]
        else:
            shape = (*self.tokens.shape[:2], 1)
            now = mx.take_along_axis(self.tokens, mx.broadcast_to(index, shape), 2)
            now = now.squeeze(-1)
        if min(self.offsets) <= self.max_delay or active is not None:
            early = mx.array(self.offsets)[:, None] <= mx.array(self.delays)
            if active is not None:
                early = early | ~mx.array(list(active))[:, None]
            now = mx.where(early, self._initial, now)
        audio = now[:, 1:, None] if len(self.delays) > 1 else None
        return now[:, :1], audio

    def say(
        self, text: mx.array, audio: mx.array, active: Sequence[bool] | None
    ) -> None:
        """Take the sampled ``[B, 1]`` and ``[B, own]``; move on to the next call."""
        shifts = [1] * self.own
        self._write(0, shifts, mx.concatenate([text, audio], axis=1), active)
        rows = self._taking_part(active)
        for row in rows:
            self.offsets[row] += 1
            self._note_silence(row, self.given.take(row, 1))
        self._complete(rows)

    def _taking_part(self, active: Sequence[bool] | None) -> list[int]:
        everyone = range(len(self.offsets))
        return [row for row in everyone if active is None or active[row]]

    def _complete(self, rows: Sequence[int]) -> None:
        """The frame that the latest call of ``rows`` completed."""
        everyone = range(len(self.offsets))
        ready = [r in rows and self.offsets[r] > self.max_delay for r in everyone]
        self._last = None
        if any(ready):
            index = self._index([d - self.max_delay for d in self.delays[: self.own]])
            shape = (len(self.offsets), self.own, 1)
            tokens = mx.take_along_axis(
                self.tokens[:, : self.own], mx.broadcast_to(index, shape), axis=2
            ).squeeze(-1)
            if not all(ready):
                tokens = mx.where(mx.array(ready)[:, None], tokens, -2)
            self._last = tokens

    def given_now(self, active: Sequence[bool] | None) -> Given | None:
        """What was given for this call; None if nothing was."""
        rows = self._taking_part(active)
        tokens = self.given.column(rows)
        if tokens is None:
            return None
        said = np.array(self.offsets)[:, None] + 1
        needed = (tokens == UNKNOWN) & (said > np.array(self.delays[: self.own]))
        return Given(tokens, needed[rows])

    def known(self, active: Sequence[bool] | None) -> int:
        """Number of next calls in which everything that active rows say was given."""
        rows = self._taking_part(active)
        return min(self.given.known(row, self.offsets[row]) for row in rows)

    def read_ahead(
        self, other: Tokens, active: Sequence[bool] | None
    ) -> tuple[mx.array, mx.array, mx.array | None]:
        """Run T calls at once, in which everything that is said was given.

        Args:
            other: the other side's frames ``[B, other, T]``.

        Returns: the text that is said ``[B, T]``, and the model's input: text
            ``[B, T]`` and audio ``[B, n_q, T]``.
        """
        count, columns = other.shape[2], self._columns
        delays, initial = np.array(self.delays)[:, None], np.array(self._initial)[0]
        tokens, rows = np.array(self.tokens), self._taking_part(active)
        read = np.repeat(initial[None, :, None], len(self.offsets), axis=0)
        read = np.repeat(read, count, axis=2)
        last = np.arange(max(count - columns, 0), count)  # those that fit the ring
        words = np.full((len(self.offsets), count), -1, np.int32)
        for row in rows:
            ring, now, said = (
                tokens[row],
                self.offsets[row],
                self.given.take(row, count),
            )
            words[row] = said[0]
            parts = [np.append(ring[: self.own, [now % columns]], said[:, :-1], axis=1)]
            ring[: self.own, (now + 1 + last) % columns] = said[:, last]
            for k in range(self.own, len(delays)):
                heard, delay = other[row, k - self.own], self.delays[k]
                pending = ring[k, (now + np.arange(delay)) % columns]
                parts.append(np.append(pending, heard)[None, :count])
                ring[k, (now + delay + last) % columns] = heard[last]
            early = now + np.arange(count) <= delays
            read[row] = np.where(early, initial[:, None], np.concatenate(parts))
            self.offsets[row] += count
            self._note_silence(row, said)
        self.tokens = mx.array(tokens)
        self._complete(rows)
        audio = mx.array(read[:, 1:]) if len(delays) > 1 else None
        return mx.array(words), mx.array(read[:, 0]), audio

    def _note_silence(self, row: int, said: Tokens) -> None:
        """Remember when a row was last given no code, in ``said [1 + own, T]``."""
        columns = np.flatnonzero((said[1:] == NONE).any(axis=0))
        if len(columns):
            self._silent[row] = self.offsets[row] - said.shape[1] + int(columns[-1]) + 1

    def completes(self, row: int) -> bool:
        """Whether the row's latest call can have completed a frame of its own."""
        return self.offsets[row] > self.max_delay

    def is_spoken(self, row: int) -> bool:
        """Whether each code of the frame that the latest call completed is known to be
        a real one, not -1, without asking the device.

        It considers only what was given, not what hooks did.
        """
        return self.offsets[row] - self.max_delay > self._silent[row]

    def output(self) -> mx.array | None:
        """Own streams ``[B, 1 + own]`` completed by the latest call; or None."""
        return self._last
