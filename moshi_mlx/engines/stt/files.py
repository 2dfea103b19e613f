"""Sounds of different lengths, encoded side by side a second at a time."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ...audio.long import LongSound
from .model import Pcm, Recogniser
from .rows import FRAME_S, Frame, is_loud

PIECE_FRAMES = 16  # encoded at once


def encoded(
    stt: Recogniser, sounds: Sequence[Pcm | LongSound], lead: Pcm
) -> Iterator[list[list[Frame]]]:
    """The next frames of every sound, after ``lead`` and with silence behind it."""
    size, before = stt.mimi.frame_size, len(lead)
    state = stt.mimi.make_state(len(sounds))
    start, total = 0, 1.0
    while start < total:
        pcm = np.zeros((len(sounds), 1, PIECE_FRAMES * size), np.float32)
        first = start * size - before  # sample of the sounds
        for row, sound in zip(pcm[:, 0], sounds, strict=True):
            given = lead[start * size :][: len(row)]
            row[: len(given)] = given
            part = sound[max(first, 0) : max(first + len(row), 0)]
            at = max(-first, 0)
            row[at : at + len(part)] = part
        codes = stt.encode(pcm, state)
        lengths = [_length(sound) for sound in sounds]
        totals = [
            math.ceil((before + s) / size) + stt.flush_frames if s < math.inf else s
            for s in lengths
        ]
        yield [
            [
                _frame(
                    codes[b, :, i],
                    pcm[b, 0, i * size :][:size],
                    (start + i) * FRAME_S - before / stt.sample_rate,
                    lengths[b] / stt.sample_rate,
                )
                for i in range(int(min(PIECE_FRAMES, max(totals[b] - start, 0))))
            ]
            for b in range(len(sounds))
        ]
        start, total = start + PIECE_FRAMES, max(totals)


def _length(sound: Pcm | LongSound) -> float:
    """Samples of a sound; infinite while its end has not been seen."""
    known = not isinstance(sound, LongSound) or sound.ended
    return len(sound) if known else math.inf


def _frame(codes: NDArray[np.int32], pcm: Pcm, start_s: float, last_s: float) -> Frame:
    """A frame; times before and after the sound are its ends."""
    times = [min(max(t, 0.0), last_s) for t in (start_s, start_s + FRAME_S)]
    return Frame(codes, times[0], times[1], is_loud(pcm))
