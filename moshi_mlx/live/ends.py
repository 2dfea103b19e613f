"""Both ends of a conversation's sound: opened, watched and closed together."""

import threading
import time
from collections.abc import Callable

from ..audio.defaults import system_defaults
from ..audio.device import Microphone, Speaker, find_device, refresh
from ..audio.samples import Pcm
from ..errors import AudioError

Choice = str | int | None  # number or name of a device; None is the system's default

_STALLED_S = 4.0  # without a block: a microphone that sleeps, or never started
_LOOK_S = 2.0  # between checks of the system's default
_CLOSE_S = 5.0


class Ends:
    """A microphone and a loudspeaker.

    Args:
        microphone, speaker: which ones; None follows the system's default.
        buffer_s: sound that each device buffers, in seconds; None for as little as
            possible.
        hear, read: called by the devices, as in ``Microphone`` and ``Speaker``.
        on_open: called with both rates in Hz before any sound flows.
        on_lost: called on PortAudio's threads with the name of the end that is gone.
    """

    def __init__(
        self,
        microphone: Choice,
        speaker: Choice,
        buffer_s: float | None,
        hear: Callable[[Pcm], None],
        read: Callable[[int], Pcm],
        on_open: Callable[[int, int], None],
        on_lost: Callable[[str], None],
    ):
        self.microphone: Microphone | None = None
        self.speaker: Speaker | None = None
        self._chosen = {"microphone": microphone, "speaker": speaker}
        self._buffer_s = buffer_s
        self._on_block, self._fill = hear, read
        self._on_open, self._on_lost = on_open, on_lost
        self._lock = threading.Lock()  # guards opening and closing
        self._heard_at = self._read_at = 0.0  # the devices' last signs of life
        self._defaults = system_defaults()
        self._looked_at = 0.0

    @property
    def latency_s(self) -> float:
        """The latency that both devices report."""
        ends = (self.microphone, self.speaker)
        return sum(end.latency_s for end in ends if end is not None)

    def open(self) -> None:
        """Raises: AudioError if a device is not there or refuses."""
        self._open(self._chosen["microphone"], self._chosen["speaker"])

    def reopen(self) -> None:
        """Look for the chosen devices again, or else for any. Raises: AudioError."""
        refresh()
        try:
            self.open()
        except AudioError:
            self._open(None, None)

    def close(self) -> None:
        """Close both devices."""
        if not self._lock.acquire(timeout=_CLOSE_S):
            return  # a device that hangs while it opens is left alone
        try:
            self._release()
        finally:
            self._lock.release()

    def trouble(self) -> str | None:
        """Why these devices cannot be used any longer: they stopped, or others are
        wanted.

        A device that goes to sleep reports nothing: it just stops.
        """
        now = time.perf_counter()
        for name, at in (("microphone", self._heard_at), ("speaker", self._read_at)):
            if now - at > _STALLED_S:
                return f"the {name} has stopped"
        if now - self._looked_at > _LOOK_S:
            self._looked_at = now
            return self._other_default(system_defaults())
        return None

    def _other_default(self, defaults: tuple[int, int] | None) -> str | None:
        """Whether the system has a new default, and the user has chosen none."""
        if defaults is None or self._defaults is None:
            return None
        for (name, choice), now, before in zip(
            self._chosen.items(), defaults, self._defaults, strict=True
        ):
            if choice is None and now != before:
                return f"the system has chosen another {name}"
        return None

    def _open(self, microphone: Choice, speaker: Choice) -> None:
        with self._lock:
            self._defaults = system_defaults()
            found = find_device("input", microphone), find_device("output", speaker)
            try:
                self.speaker = Speaker(
                    *(found[1], self._read, lambda: self._on_lost("speaker")),
                    self._buffer_s,
                )
                self.microphone = Microphone(
                    *(found[0], self._hear, lambda: self._on_lost("microphone")),
                    self._buffer_s,
                )
                self._on_open(self.microphone.rate, self.speaker.rate)
                self.speaker.start()
                self.microphone.start()
            except AudioError:
                self._release()
                raise
            self._heard_at = self._read_at = time.perf_counter()

    def _release(self) -> None:
        for end in (self.microphone, self.speaker):
            if end is not None:
                end.close()
        self.microphone = self.speaker = None

    # On PortAudio's threads

    def _hear(self, block: Pcm) -> None:
        self._heard_at = time.perf_counter()
        self._on_block(block)

    def _read(self, num_samples: int) -> Pcm:
        self._read_at = time.perf_counter()
        return self._fill(num_samples)
