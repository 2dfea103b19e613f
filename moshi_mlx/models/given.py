"""Frames that are given instead of generated: text and own codes, known ahead of time.

The streams of a given frame fill the places that the model would fill, each as late as
its delay says. Whatever is not given is left to the model, per stream and per frame.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import ArrayLike, NDArray

Tokens = NDArray[np.int32]
NONE = -1  # no token
UNKNOWN = -2  # a token that is left to the model


class GivenFrames:
    """What is known of each row's next columns.

    Column i of the queue is what a row says in its i-th call from now on.

    Args:
        delays: delay of the text and of each own stream.
        cards: number of tokens of the text and of each own stream.
        batch_size: rows B.
    """

    def __init__(self, delays: Sequence[int], cards: Sequence[int], batch_size: int):
        self._delays = list(delays)
        self._cards = np.array(cards, np.int32)[:, None]
        self._none = np.zeros((len(delays), 0), np.int32)
        self._queues: list[Tokens] = [self._none] * batch_size
        self._frames = [0] * batch_size  # given, but not started

    def clear(self, row: int) -> None:
        """Leave everything that the row will say to the model."""
        self._queues[row], self._frames[row] = self._none, 0

    def add(self, row: int, frames: Tokens) -> None:
        """Append frames ``[1 + own, T]`` to the queue.

        Raises: ValueError for a token that is not in the model's vocabulary.
        """
        wrong = (frames < UNKNOWN) | (frames >= self._cards)
        if wrong.any():
            stream = int(np.argmax(wrong.any(axis=1)))
            raise ValueError(
                f"stream {stream} was given the token {frames[wrong][0]}: give 0 to "
                f"{self._cards[stream, 0] - 1}, -1 for none, or -2 to leave it to the "
                "model."
            )
        first, count = self._frames[row], frames.shape[1]
        end = first + count + max(self._delays)
        queue = np.full((len(self._delays), end), UNKNOWN, np.int32)
        old = self._queues[row]
        queue[:, : old.shape[1]] = old
        for stream, delay in enumerate(self._delays):
            queue[stream, first + delay : first + delay + count] = frames[stream]
        self._queues[row], self._frames[row] = queue, first + count

    def column(self, rows: Sequence[int]) -> Tokens | None:
        """What rows say in this call, ``[B, 1 + own]``; None if nothing is known."""
        found = np.full((len(self._queues), len(self._delays)), UNKNOWN, np.int32)
        for row in rows:
            if self._queues[row].shape[1]:
                found[row] = self._queues[row][:, 0]
        return found if (found != UNKNOWN).any() else None

    def known(self, row: int, said: int) -> int:
        """Number of next calls in which everything that the row says is known.

        Args:
            said: its newest column; columns before a stream's delay are never read.
        """
        queue = self._queues[row]
        column = said + 1 + np.arange(queue.shape[1])
        unread = column <= np.array(self._delays)[:, None]
        whole = ((queue != UNKNOWN) | unread).all(axis=0)
        return len(whole) if whole.all() else int(np.argmin(whole))

    def take(self, row: int, count: int) -> Tokens:
        """The row's next columns ``[1 + own, count]``, removed from the queue."""
        queue = self._queues[row]
        self._queues[row] = queue[:, count:]
        self._frames[row] = max(self._frames[row] - count, 0)
        return queue[:, :count]

    def snapshot(self, rows: Sequence[int]) -> dict[str, Any]:
        """The rows' queues."""
        queues = [mx.array(self._queues[row]) for row in rows]
        return {"queues": queues, "frames": [self._frames[row] for row in rows]}

    def restore(self, state: Mapping[str, Any], rows: Sequence[int]) -> None:
        """Continue from a snapshot's queues."""
        queues = zip(rows, state["queues"], state["frames"], strict=True)
        for row, queue, frames in queues:
            self._queues[row], self._frames[row] = np.array(queue), frames


class Given:
    """What is known in one call, at least one token.

    Args:
        tokens: ``[B, 1 + own]``, -2 if unknown.
        needed: which tokens the model must supply, over the rows that take part.
    """

    def __init__(self, tokens: Tokens, needed: NDArray[np.bool_]):
        self._text, self._codes = mx.array(tokens[:, :1]), mx.array(tokens[:, 1:, None])
        self.text_is_known = not needed[:, 0].any()
        columns = np.flatnonzero(needed[:, 1:].any(axis=0))
        # steps that the depth transformer must take
        self.unknown_codes = int(columns[-1]) + 1 if len(columns) else 0

    @property
    def codes(self) -> mx.array:
        """``[B, own]``, -2 if unknown."""
        return self._codes[..., 0]

    def text_or(self, text: mx.array) -> mx.array:
        """Text ``[B, 1]``; ``text`` fills in what was not given."""
        return mx.where(self._text == UNKNOWN, text, self._text)

    def codes_or(self, codes: mx.array) -> mx.array:
        """Codes ``[B, own, 1]``; ``codes`` fill in what was not given."""
        return mx.where(self._codes == UNKNOWN, codes, self._codes)


def frames_of(
    text: ArrayLike | mx.array | None,
    own: ArrayLike | mx.array | None,
    rows: int,
    codebooks: int,
) -> Tokens:
    """Text ``[B, T]`` and own codes ``[B, own, T]`` as ``[B, 1 + own, T]``.

    None leaves a part to the model.

    Raises: ValueError for other shapes.
    """
    words = None if text is None else np.array(text, dtype=np.int32)
    codes = None if own is None else np.array(own, dtype=np.int32)
    given = [tokens.shape[-1] for tokens in (words, codes) if tokens is not None]
    count = given[0] if given else 0
    shapes = (
        [] if words is None else [(words.shape, (rows, count))],
        [] if codes is None else [(codes.shape, (rows, codebooks, count))],
    )
    for name, pairs in zip(("text", "own"), shapes, strict=True):
        for shape, wanted in pairs:
            if shape != wanted:
                raise ValueError(
                    f"{name} was given in the shape {list(shape)}: give it as "
                    f"{list(wanted)}, rows first and frames last."
                )
    frames = np.full((rows, 1 + codebooks, count), UNKNOWN, np.int32)
    if words is not None:
        frames[:, 0] = words
    if codes is not None:
        frames[:, 1:] = codes
    return frames
