"""From any sound that users give to samples: finds a decoder, warns of missing
parts."""

import logging
from collections.abc import Callable, Iterator
from io import BufferedReader

import numpy as np

from ..errors import AudioError
from ..utils.blobs import LFS_POINTER, is_lfs_pointer
from .containers import kind_of, spans
from .decode import Decoder, PackedPcm, Plain, Unreadable
from .foreign import KINDS, decoders, foreign
from .inputs import Input, SoundLike
from .lengths import declared_size, lacks_index, says_length
from .span import Span, Window

_log = logging.getLogger(__name__)

SHORT_BY_S = 0.1  # shorter losses are not worth a warning
# The decoders to try for a kind, in order; libsndfile reads the others.
_DECODERS = {
    "mp3": ("packed", "foreign"),
    "adts": ("packed", "foreign"),
    "flac": ("packed", "plain", "foreign"),
    "ogg": ("plain", "packed", "foreign"),  # FLAC in Ogg is not plain to all
    "mp4": ("foreign",),
    "matroska": ("foreign", "packed"),
    "asf": ("foreign",),
    "amr": ("foreign",),
    "": ("packed", "plain", "foreign"),
}
_PLAIN = ("plain", "foreign")


class OpenedSound:
    """A file that is read once, from start to end, with all its channels.

    Attributes:
        name: of the file, for people.
        length_s: its length by its header; None if it does not say.

    Raises: AudioError if nothing of it can be read.
    """

    def __init__(self, sound: SoundLike):
        self._source = Input(sound)
        self.name = self._source.name
        if is_lfs_pointer(self._source.path):
            raise AudioError(f"{self.name} {LFS_POINTER}.")
        with self._source.path.open("rb") as file:
            self._kind = kind_of(file)
            self._counted = says_length(file, self._kind)
            self._spans = spans(file, self._kind, self._source.size)
            self._declared = declared_size(file, self._kind)
            if lacks_index(file, self._kind, self._source.size):
                named = " (moov)" if self._kind == "mp4" else ""
                raise AudioError(
                    f"{self.name} was cut off before its index{named}, without which "
                    "none of it can be read: copy, download or export it again."
                )
        try:
            self._first = self._decoder(self._spans[0])
        except Unreadable as error:
            raise AudioError(
                f"{self.name} is not a sound file that can be read ({error}): give "
                "wav, mp3, flac, ogg, opus, aac, m4a or another usual kind."
            ) from error
        except AudioError as error:
            if str(error).startswith(self.name):
                raise
            raise AudioError(f"{self.name}: {error}") from error
        self.length_s: float | None = None
        if self._first.length is not None and len(self._spans) == 1:
            self.length_s = self._first.length / self._first.sample_rate

    def blocks(self) -> Iterator[tuple[np.ndarray, int]]:
        """Samples, float32 ``[C, S]`` with any S, and their rate in Hz.

        At the end, a warning in the log says what is missing.
        """
        got_s = 0.0
        for span in self._spans:
            decoder = self._first if span is self._spans[0] else self._next(span)
            if decoder is None:
                continue
            got, rate = 0, decoder.sample_rate
            try:
                for pcm in decoder.blocks():
                    got += pcm.shape[1]
                    yield pcm, rate
            finally:
                decoder.close()
            got_s += got / rate
            self._tell(decoder, span, got / rate)
        self._tell_cut(got_s)

    def close(self) -> None:
        """Close the file, even if more of it could be read."""
        self._first.close()

    def _next(self, span: Span) -> Decoder | None:
        try:
            return self._decoder(span)
        except (Unreadable, AudioError) as error:
            _log.warning("%s: a part of it cannot be read (%s)", self.name, error)
            return None

    def _decoder(self, span: Span) -> Decoder:
        """The first decoder that can read a part."""
        ways: dict[str, Callable[[], Decoder]] = {
            "plain": lambda: self._plain(span),
            "packed": lambda: self._packed(span),
            "foreign": lambda: foreign(self._source, self._kind),
        }
        reasons = []
        for way in _DECODERS.get(self._kind, _PLAIN):
            able = self._kind in KINDS or decoders()
            if way == "foreign" and (len(self._spans) > 1 or not able):
                continue
            try:
                return ways[way]()
            except Unreadable as error:
                reasons.append(str(error))
        raise Unreadable(reasons[0])

    def _plain(self, span: Span) -> Decoder:
        return Plain(self._source.path.open("rb"), span, self._kind == "ogg")

    def _packed(self, span: Span) -> Decoder:
        if len(self._spans) == 1:
            return PackedPcm(self._source, self._kind)
        with self._source.path.open("rb") as file:  # Symphonia needs a file of its own
            part = Input(BufferedReader(Window(file, span)))
        return PackedPcm(part, self._kind)

    def _tell(self, decoder: Decoder, span: Span, got_s: float) -> None:
        """Warn about a part of which only ``got_s`` seconds were read."""
        name, rate = self.name, decoder.sample_rate
        if span.note:
            _log.warning("%s: %s: %.1f s", name, span.note, got_s)
        if decoder.lost:
            minutes, seconds = divmod(int(decoder.lost_at_s), 60)
            place = f"{minutes}:{seconds:02}"
            lost_s = decoder.lost / rate
            _log.warning(
                "%s is damaged near %s, some of it is silence: %.1f s could not be "
                "read",
                *(name, place, lost_s),
            )
        claimed_s = max(
            (decoder.length or 0) / rate, span.shortest / (span.marks_hz or rate)
        )
        if self._counted and claimed_s - got_s > SHORT_BY_S:
            self._warn_short(got_s, claimed_s)

    def _tell_cut(self, got_s: float) -> None:
        """Warn if a file is shorter than its header says."""
        size = self._source.size
        if self._declared and got_s and self._declared > size and not self._noted():
            claimed_s = got_s * self._declared / size
            if claimed_s - got_s > SHORT_BY_S:
                self._warn_short(got_s, claimed_s)

    def _noted(self) -> bool:
        return len(self._spans) > 1 or bool(self._spans[0].note)

    def _warn_short(self, got_s: float, claimed_s: float) -> None:
        _log.warning(
            "%s ends after %.1f s, %.1f s of its %.1f s are missing: it was cut off or "
            "is damaged",
            *(self.name, got_s, claimed_s - got_s, claimed_s),
        )
