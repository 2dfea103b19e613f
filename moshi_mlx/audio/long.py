"""Sounds of any length, a piece at a time: one channel at the models' rate."""

import logging
from collections.abc import Callable, Iterator
from itertools import chain, count
from math import ceil

import numpy as np

from ..errors import AudioError
from .files import joined
from .framing import FRAME, SAMPLE_RATE
from .inputs import SoundLike
from .opening import OpenedSound
from .resample import Resampler
from .samples import LOUDEST, fault, mixed

_log = logging.getLogger(__name__)

LONG_S = 600.0  # longer files are read in pieces, while they are used
Block = tuple[np.ndarray, int]  # samples [C, S], and their rate in Hz


class LongSound:
    """A sound as mono float32 ``[S]``, read as needed.

    Slices must come in order: everything before the latest one is dropped.

    Args:
        blocks: its samples and their rate.
        length_s: its length by the file's header.
        sample_rate: of the result, in Hz.
        close: closes the file.
    """

    def __init__(
        self,
        name: str,
        blocks: Iterator[Block],
        length_s: float | None,
        sample_rate: int,
        close: Callable[[], None] = lambda: None,
    ):
        self.name = name
        self.close = close
        self._blocks = blocks
        self._rate = sample_rate
        self._expected = ceil((length_s or 0) * sample_rate)
        self._resampler: tuple[int, Resampler] | None = None  # with its source rate
        self._ahead = np.zeros(0, np.float32)
        self._at = 0  # first sample of ``_ahead``
        self._silenced = False
        self.ended = False  # whether the end is known

    def __len__(self) -> int:
        """Total number of samples: an estimate until the end is reached (``ended``)."""
        here = self._at + self.held
        return here if self.ended else max(self._expected, here)

    @property
    def held(self) -> int:
        """Samples in memory."""
        return len(self._ahead)

    def __getitem__(self, part: slice) -> np.ndarray:
        """Samples ``[start:stop]`` of the whole sound, both at least 0.

        There are fewer only at the end.
        """
        start = part.start or 0
        if start < self._at:
            raise ValueError("a long recording can only be read forwards.")
        while not self.ended and (
            part.stop is None or self._at + len(self._ahead) <= part.stop
        ):
            self._ahead = np.concatenate([self._ahead, self._next()])
            forgotten = min(max(start - self._at, 0), len(self._ahead))
            self._ahead = self._ahead[forgotten:]
            self._at += forgotten
        stop = len(self) if part.stop is None else part.stop
        return self._ahead[start - self._at : max(stop, start) - self._at]

    def _next(self) -> np.ndarray:
        """The next samples ``[S]``; at the end, the resampler's last ones."""
        block = next(self._blocks, None)
        if block is None:
            self.ended = True
            return self._rest()
        pcm, rate = mixed(self._finite(block[0])), block[1]
        if self._resampler is None or self._resampler[0] != rate:
            rest = self._rest()
            self._resampler = rate, Resampler(rate, self._rate)
            return np.concatenate([rest, self._resampler[1].push(pcm)[0]])
        return self._resampler[1].push(pcm)[0]

    def _rest(self) -> np.ndarray:
        if self._resampler is None:
            return np.zeros(0, np.float32)
        return self._resampler[1].flush()[0]

    def _finite(self, pcm: np.ndarray) -> np.ndarray:
        """Samples; those that cannot be sound become silence, with one warning."""
        wrong = fault(pcm)
        if not wrong:
            return pcm
        if not self._silenced:
            self._silenced = True
            _log.warning("%s holds samples that %s: they are silence", self.name, wrong)
        return np.where(np.abs(pcm) <= LOUDEST, pcm, np.float32(0))


def open_sound(
    sound: SoundLike, sample_rate: int = SAMPLE_RATE
) -> "np.ndarray | LongSound":
    """A sound as mono float32 ``[S]``; sounds over ten minutes are not loaded at once.

    Args:
        sound: as ``read`` takes it.
        sample_rate: of the result, in Hz.

    Raises: AudioError, as ``read``. Damaged parts of a long file become silence, with a
        warning in the log when they are reached.
    """
    source = OpenedSound(sound)
    blocks, begun, seconds = source.blocks(), list[Block](), 0.0
    if (source.length_s or 0.0) < LONG_S:
        for pcm, rate in blocks:
            begun.append((mixed(pcm), rate))
            seconds += pcm.shape[1] / rate
            if seconds >= LONG_S:
                break
        else:
            return joined(source.name, begun, sample_rate)[0]
    whole = chain(begun, blocks)
    return LongSound(source.name, whole, source.length_s, sample_rate, source.close)


def short_sound(sound: SoundLike, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """A voice or a prompt as mono float32 ``[S]``.

    Raises: AudioError if it is longer than ten minutes. No more than that is read,
        since a few bytes can stand for hours of silence.
    """
    found = open_sound(sound, sample_rate)
    if isinstance(found, LongSound):
        found.close()  # now: the error's traceback would keep it open for long
        raise AudioError(
            f"{found.name} is longer than {LONG_S / 60:.0f} minutes: a few seconds of "
            "it are enough, cut them out."
        )
    return found


def frames(sound: SoundLike) -> Iterator[np.ndarray]:
    """A sound as mono frames ``[1920]`` at 24 kHz, the last one padded with silence.

    If the sound cannot be opened, this call raises, not the first frame. Of a long file
    only a piece is in memory at a time (see ``open_sound``).
    """
    return _frames(open_sound(sound))


def _frames(sound: "np.ndarray | LongSound") -> Iterator[np.ndarray]:
    for at in count(0, FRAME):
        frame = sound[at : at + FRAME]
        if len(frame):
            yield np.pad(frame, (0, FRAME - len(frame)))
        if len(frame) < FRAME:
            return
