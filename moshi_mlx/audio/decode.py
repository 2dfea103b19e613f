"""Samples of a file as it stores them, a piece at a time.

libsndfile reads uncompressed files (WAV, RF64, W64, AU, AIFF, CAF) and Ogg (Vorbis,
Opus, FLAC). Symphonia reads MP3, FLAC and AAC, because it continues after damage and
prints nothing on the terminal. Neither loads the whole file: an hour of Opus takes no
more memory than a second. Other kinds are in ``foreign``.
"""

import logging
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol, TypeVar, cast

import numpy as np

from ..errors import AudioError
from .containers import HEAD
from .inputs import Input
from .placing import in_place, placed
from .resample import check_rate
from .span import Span, Window

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

PIECE_S = 10  # whole seconds, so that pieces meet exactly
LEAD_S = 1  # decoded before a piece and dropped: MP3 frames depend on earlier ones
SHORTEST_S = 1 / 16  # damaged sound is dropped in stretches of this length
ROUNDING = 2  # samples
_BLOCK = 2**18  # numbers in a block
_TAIL_S = 0.2  # at the end, to distinguish a cut file from a damaged one
# Vorbis and Opus order loudspeakers differently; these put them into WAV's order.
_FROM_VORBIS = {5: (0, 2, 1, 3, 4), 6: (0, 2, 1, 5, 3, 4)}
_FROM_VORBIS |= {7: (0, 2, 1, 6, 5, 3, 4), 8: (0, 2, 1, 7, 5, 6, 3, 4)}


class Decoder(Protocol):
    """A sound that can be read once, from its beginning.

    Attributes:
        sample_rate: in Hz.
        length: number of samples by the file's header, or an estimate (see
            ``says_length``); None if it does not say.
        lost: number of samples that could not be read, and are silent.
        lost_at_s: the time of the first of them.
    """

    sample_rate: int
    length: int | None
    lost: int
    lost_at_s: float

    def blocks(self) -> Iterator[np.ndarray]:
        """The samples, float32 ``[C, S]`` with any S."""
        ...

    def close(self) -> None: ...


class Unreadable(Exception):
    """A decoder cannot make sense of a file; says why."""


class Plain:
    """A part of a file that libsndfile reads."""

    def __init__(self, file: BinaryIO, span: Span, ogg: bool):
        import soundfile

        class Forwards(soundfile.SoundFile):
            """Never asked to seek: soundfile would do so after every block."""

            def seekable(self) -> bool:
                return False

        self._raw = file
        try:
            self._file = Forwards(cast(BinaryIO, Window(file, span)))
        except (soundfile.SoundFileError, ValueError, OverflowError) as error:
            file.close()  # now: the error's traceback would keep it open for long
            raise Unreadable(str(error).split(": ", 1)[-1].rstrip(".")) from error
        try:
            self.sample_rate = check_rate(self._file.samplerate)
        except AudioError:
            self.close()  # as above
            raise
        known = 0 < self._file.frames < 2**62
        self.length = self._file.frames if known else None
        self.lost, self.lost_at_s = 0, 0.0
        self._order = _FROM_VORBIS.get(self._file.channels) if ogg else None

    def blocks(self) -> Iterator[np.ndarray]:
        import soundfile

        size = max(_BLOCK // self._file.channels, 1)
        while True:
            try:
                pcm = self._file.read(size, dtype="float32", always_2d=True).T
            except soundfile.SoundFileError as error:
                _log.debug("libsndfile: %s", error)
                return
            if not pcm.shape[1]:
                return
            yield pcm if self._order is None else pcm[list(self._order)]

    def close(self) -> None:
        self._raw.close()

    def __del__(self) -> None:
        self.close()


class PackedPcm:
    """A file that Symphonia reads, some seconds at a time.

    Seconds that cannot be read are silent, so that the rest keeps its time.

    Args:
        kind: of the file, see ``kind_of``; the length that AAC states is ignored.
    """

    def __init__(self, source: Input, kind: str):
        import sphn

        self._source = source  # keep it: it may be temporary
        self._reader = _tried(lambda: sphn.FileReader(str(source.path)))
        self.sample_rate = check_rate(int(self._reader.sample_rate))
        length = round(self._reader.duration_sec * self.sample_rate)
        self.lost, self.lost_at_s = 0, 0.0
        # FLAC ends at its stated length (MP3 may go on), and its frames tell the time.
        with source.path.open("rb") as file:
            self._ends = kind == "flac" or b"fLaC" in file.read(HEAD)
        self.length = length if length and kind != "adts" else None

    def blocks(self) -> Iterator[np.ndarray]:
        at_s, length = 0, self.length if self._ends else None
        while length is None or at_s * self.sample_rate < length:
            wanted = PIECE_S * self.sample_rate
            if length is not None:
                wanted = min(wanted, length - at_s * self.sample_rate)
            before = self.lost
            pcm = self._piece(at_s, wanted)
            missing = wanted - pcm.shape[1]
            if missing <= ROUNDING and self._ends:
                pcm = self._timed(pcm, at_s, wanted)
                missing = wanted - pcm.shape[1]
            goes_on = missing <= ROUNDING or self._goes_on(at_s, wanted)
            if goes_on and missing > 0:
                pcm = np.pad(pcm, ((0, 0), (0, missing)))
                self.lost += missing if missing > ROUNDING else 0
            if self.lost and not before:
                self.lost_at_s = at_s
            if pcm.shape[1]:
                yield pcm
            if not goes_on:
                return
            at_s += PIECE_S

    def close(self) -> None:
        del self._reader

    def _goes_on(self, at_s: int, wanted: int) -> bool:
        """Whether more sound follows a piece that came out too short."""
        if self._ends and wanted < PIECE_S * self.sample_rate:
            end_s = at_s + wanted / self.sample_rate
            return bool(self._decode(end_s - min(_TAIL_S, end_s), 1).shape[1])
        ahead = range(at_s + PIECE_S, at_s + 2 * PIECE_S)
        return any(self._decode(second, 1).shape[1] for second in ahead)

    def _piece(self, at_s: int, wanted: int) -> np.ndarray:
        """Up to ``wanted`` samples from a second on; none at the end of the file."""
        lead_s = min(LEAD_S, at_s)
        pcm = self._decode(at_s - lead_s, lead_s + PIECE_S)
        if pcm.shape[1]:
            return pcm[:, lead_s * self.sample_rate :][:, :wanted]
        seconds = [self._decode(at_s + i, 1) for i in range(PIECE_S)]
        last = max((i for i, pcm in enumerate(seconds) if pcm.shape[1]), default=-1)
        parts = [
            pcm if pcm.shape[1] else self._salvaged(at_s + i, 1.0)
            for i, pcm in enumerate(seconds[: last + 1])
        ]
        parts = [self._filled(pcm, self.sample_rate) for pcm in parts[:-1]] + parts[-1:]
        return self._joined(parts)[:, :wanted]

    def _timed(self, pcm: np.ndarray, at_s: int, wanted: int) -> np.ndarray:
        """A piece whose samples are at their times, with silence for what is lost."""

        def read(at: int) -> np.ndarray:
            return self._decode(at_s + (at + 0.5) / self.sample_rate, SHORTEST_S)

        step = int(SHORTEST_S * self.sample_rate)
        last = max(wanted - step, 0)
        if pcm.shape[1] == wanted and in_place(pcm, last, read(last)):
            return pcm
        pcm, lost = placed(pcm, step, wanted, read)
        self.lost += lost
        return pcm

    def _salvaged(self, at_s: float, seconds: float) -> np.ndarray:
        """What can be read of a damaged stretch, in its place; the rest is silence."""
        pcm = self._decode(at_s, seconds)
        if not pcm.shape[1] and seconds > SHORTEST_S:
            half = seconds / 2
            parts = [self._salvaged(at_s, half), self._salvaged(at_s + half, half)]
            pcm = self._joined(parts)
        return self._filled(pcm, round(seconds * self.sample_rate))

    def _filled(self, pcm: np.ndarray, size: int) -> np.ndarray:
        missing = max(size - pcm.shape[1], 0)
        self.lost += missing
        return np.pad(pcm[:, :size], ((0, 0), (0, missing)))

    def _joined(self, parts: list[np.ndarray]) -> np.ndarray:
        channels = int(self._reader.channels)
        empty = np.zeros((channels, 0), np.float32)
        return np.concatenate([empty, *(p for p in parts if p.shape[1])], axis=1)

    def _decode(self, at_s: float, seconds: float) -> np.ndarray:
        """A stretch ``[C, S]``; empty if nothing of it can be read."""
        try:
            return _tried(lambda: self._reader.decode(at_s, seconds))
        except Unreadable as error:
            _log.debug("symphonia: %s", error)
            return np.zeros((int(self._reader.channels), 0), np.float32)


def _tried(read: Callable[[], _T]) -> _T:
    """The result of ``read``. Raises: Unreadable if sphn gives up."""
    try:
        return read()
    except Exception as error:
        raise Unreadable(str(error).split(": ", 1)[-1]) from error
    except BaseException as error:  # a Rust panic is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise Unreadable(str(error)) from error
