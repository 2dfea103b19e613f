"""From words with times to the text stream of a model.

A word starts in the frame of its start time; the frame before it says that padding
ends. The rest of a word is dropped when the next one starts.
Source: kyutai-labs/moshi-finetune, finetune/data/interleaver.py.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ..audio.framing import FRAME, SAMPLE_RATE
from ..utils.text import Tokenizer

FRAME_RATE = SAMPLE_RATE / FRAME  # Hz, of every model
MAIN = "SPEAKER_MAIN"  # moshi-finetune's name for the model's side
NOTHING = -1  # a place that is neither heard nor learnt
Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class SpokenWord:
    """A word: its times in seconds, and who said it."""

    text: str
    start: float
    end: float
    speaker: str = MAIN


@dataclass(frozen=True)
class TextRules:
    """How words become tokens.

    Attributes:
        padding, end_padding: tokens between words, and right before one.
        delay_s: how much later than the sound the text comes; negative for earlier.
        main_only: drop the words of all speakers except ``MAIN``.
        shift: say all pieces of a word, however late, instead of cutting it off.
        in_word: padding during a word, if it is a different token.
        turns: tokens before the first word of the main side's turn, and after it.
    """

    padding: int = 3
    end_padding: int = 0
    delay_s: float = 0.0
    main_only: bool = True
    shift: bool = False
    in_word: int | None = None
    turns: tuple[int, int] | None = None


def frames_of(seconds: float) -> int:
    """Frames that cover a time."""
    return math.ceil(round(seconds * FRAME_RATE, 6))


def encoder(tokenizer: Tokenizer) -> Encode:
    """Words, without the spaces around them, to pieces; a line break is one piece."""
    break_piece = getattr(tokenizer, "piece_to_id", lambda _: 0)("<0x0A>")

    def encode(text: str) -> list[int]:
        first, *more = (tokenizer.encode(line) for line in text.strip().split("\n"))
        return first + [piece for line in more for piece in (break_piece, *line)]

    return encode


def text_stream(
    words: Iterable[SpokenWord] | None,
    frames: int,
    encode: Encode,
    rules: TextRules = TextRules(),
) -> np.ndarray:
    """The text stream ``[frames]`` int32; all ``NOTHING`` without a transcript.

    Args:
        words: in any order; None if there is no transcript.
        encode: turns a word into its pieces, see ``encoder``.
    """
    stream = np.full(frames, NOTHING if words is None else rules.padding, np.int32)
    if words is None:
        return stream
    ahead = _starts(words, encode, rules)
    pieces: list[int] = []
    end = -1.0  # in frames, of the latest word
    late = int(FRAME_RATE * max(rules.delay_s, 0.0))
    stream[:late] = NOTHING
    empty = {rules.padding, rules.in_word}
    for t in range(late, frames):
        while ahead and ahead[0][0] < t + 1:
            _, end, new = ahead.pop(0)
            pieces = pieces + new if rules.shift else new
        if pieces:
            if t and int(stream[t - 1]) in empty:
                stream[t - 1] = rules.end_padding
            stream[t], pieces = pieces[0], pieces[1:]
        elif rules.in_word is not None and t <= end:
            stream[t] = rules.in_word
    return stream


def _starts(
    words: Iterable[SpokenWord], encode: Encode, rules: TextRules
) -> list[tuple[float, float, list[int]]]:
    """Start and end, in frames, and the pieces of each word that is said."""
    found, speaker = [], ""
    for word in sorted(words, key=lambda word: word.start):
        main = word.speaker == MAIN
        if word.end <= word.start or (rules.main_only and not main):
            continue
        pieces = list(encode(word.text))
        if rules.turns is not None and word.speaker != speaker and (main or speaker):
            pieces = [rules.turns[0 if main else 1], *pieces]
        speaker = word.speaker
        start, end = (
            (time + rules.delay_s) * FRAME_RATE for time in (word.start, word.end)
        )
        found.append((start, end, pieces))
    return found
