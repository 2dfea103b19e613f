"""The sound of a live conversation: microphone to frames, answers to loudspeaker.

One thread does all that takes time. It sleeps on a queue that the devices' callbacks
and the model thread fill, with copies and nothing else.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..audio.defaults import system_defaults
from ..audio.device import BLOCK_MS, Microphone, Speaker, find_device, refresh
from ..audio.framing import SAMPLE_RATE, Framer
from ..audio.resample import Resampler
from ..errors import AudioError
from .echo import EchoCanceller
from .jitter import JitterBuffer

_log = logging.getLogger(__name__)

Pcm = NDArray[np.float32]
Event = tuple[Literal["heard", "played", "answer", "lost"], Pcm | str, float]

_MOST_EVENTS = 64  # over half a second of both devices and of answers
_BLOCK_S = BLOCK_MS["input"] / 1000
_STALLED_S = 4.0  # without a block: a microphone that sleeps, or never woke up
_LOOK_S = 2.0  # between looks whether the system's default is another
_RETRY_S = 1.0  # between looks for a device that came back
_CLOSE_S = 5.0
_SPEAKING_RMS = 0.004  # full scale is 1
_HANGOVER_S = 0.3  # half duplex: the room still sounds


@dataclass(frozen=True)
class SoundOptions:
    """How a conversation hears and speaks.

    Attributes:
        microphone, speaker: number or name of a device; None is the system's default.
        echo: take the loudspeaker's sound out of the microphone.
        half_duplex: do not listen while Moshi speaks.
        noise_suppression, gain_control: clean and level the user's voice.
        buffer_ms: sound that each device holds; None is as little as goes. More keeps
            a busy machine from crackling, and makes Moshi answer so much later.
    """

    microphone: str | int | None = None
    speaker: str | int | None = None
    echo: bool = True
    half_duplex: bool = False
    noise_suppression: bool = False
    gain_control: bool = False
    buffer_ms: float | None = None

    @property
    def buffer_s(self) -> float | None:
        return None if self.buffer_ms is None else self.buffer_ms / 1000

    @property
    def cleans(self) -> bool:
        return self.echo or self.noise_suppression or self.gain_control


class Sound:
    """Microphone and loudspeaker of a conversation.

    Args:
        options: which devices, and what is done to the sound.
        on_frame: called on the sound thread with every frame ``[1920]`` at 24 kHz that
            was heard, and when its last sample was there (``time.perf_counter``).
        on_notice: called there with a sentence for the user: devices lost and found.
        on_error: called there where the sound cannot go on; by default it is logged.
    """

    def __init__(
        self,
        options: SoundOptions,
        on_frame: Callable[[Pcm, float], None],
        on_notice: Callable[[str], None],
        on_error: Callable[[Exception], None] | None = None,
    ):
        self.options = options
        self.muted = False
        self.volume = 1.0
        self.heard_level = 0.0  # rms of the newest frame
        self.played_level = 0.0
        self.lost_blocks = 0  # events that the sound thread was too slow for
        self.silent_s = 0.0  # of nothing but zeros since the microphone was opened
        self._alive = False  # it has given something else
        self.jitter: JitterBuffer | None = None
        self.microphone: Microphone | None = None
        self.speaker: Speaker | None = None
        self._on_frame = on_frame
        self._on_notice = on_notice
        self._on_error = on_error or _log_error
        self._events: queue.Queue[Event] = queue.Queue(_MOST_EVENTS)
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="moshi-sound", daemon=True
        )
        self._framer: Framer | None = None
        self._canceller: EchoCanceller | None = None
        self._played: list[Pcm] = []  # by the loudspeaker, since the last block heard
        self._lock = threading.Lock()  # guards opening and closing of devices
        self._heard_at = self._read_at = 0.0  # the devices' last signs of life
        self._defaults = system_defaults()
        self._looked_at = 0.0
        self._speaking_until = 0.0

    # From any thread

    def start(self) -> None:
        """Open the devices and begin. Raises: AudioError where there is none."""
        self._open(self.options.microphone, self.options.speaker)
        self._thread.start()

    def stop(self) -> None:
        """Fall silent and give the devices back."""
        self._stopping.set()
        self._put(("lost", "", 0.0))
        if self._thread.is_alive():
            self._thread.join(5)
        self._close()

    def play(self, pcm: Pcm, heard_at: float) -> None:
        """Queue Moshi's frame ``[1920]``, the answer to what was heard then."""
        self._put(("answer", pcm, heard_at))

    def hush(self) -> None:
        """Forget what is still to be played."""
        if self.jitter is not None:
            self.jitter.clear()

    @property
    def paused(self) -> bool:
        """Whether there is no device to hear or speak with."""
        return self.microphone is None

    @property
    def echo_delay_s(self) -> float | None:
        """From loudspeaker to microphone; None where no echo was heard."""
        return self._canceller.delay_s if self._canceller else None

    @property
    def device_latency_s(self) -> float:
        """What both devices add, as they say."""
        ends = (self.microphone, self.speaker)
        return sum(end.latency_s for end in ends if end is not None)

    # Devices

    def _open(self, microphone: str | int | None, speaker: str | int | None) -> None:
        with self._lock:
            self._defaults = system_defaults()
            found = find_device("input", microphone), find_device("output", speaker)
            buffer_s = self.options.buffer_s
            self.speaker = Speaker(
                found[1], self._read, lambda: self._lose("speaker"), buffer_s
            )
            rate = self.speaker.rate
            self._to_speaker = Resampler(SAMPLE_RATE, rate)
            self._played_back = Resampler(rate, SAMPLE_RATE)
            self.jitter = JitterBuffer(rate, BLOCK_MS["output"] / 1000)
            try:
                self.microphone = Microphone(
                    *(found[0], self._hear, lambda: self._lose("microphone")), buffer_s
                )
                self._from_microphone = Resampler(self.microphone.rate, SAMPLE_RATE)
                self._canceller = self._make_canceller()
                self._framer, self._alive = None, False
                self.speaker.start()
                self.microphone.start()
            except AudioError:
                self._release()
                raise
            self._heard_at = self._read_at = time.perf_counter()

    def _make_canceller(self) -> EchoCanceller | None:
        o = self.options
        if not o.cleans:
            return None
        return EchoCanceller(
            echo=o.echo,
            noise_suppression=o.noise_suppression,
            gain_control=o.gain_control,
        )

    def _close(self) -> None:
        if not self._lock.acquire(timeout=_CLOSE_S):
            return  # a device that hangs while it opens is left alone
        try:
            self._release()
        finally:
            self._lock.release()

    def _release(self) -> None:
        for end in (self.microphone, self.speaker):
            if end is not None:
                end.close()
        self.microphone = self.speaker = None
        self.heard_level = self.played_level = 0.0

    # On PortAudio's threads: copy, no more

    def _hear(self, block: Pcm) -> None:
        self._put(("heard", block, time.perf_counter()))

    def _read(self, num_samples: int) -> Pcm:
        if self.jitter is None:
            return np.zeros(num_samples, np.float32)
        self._read_at = time.perf_counter()
        block = self.jitter.read(num_samples)
        if self.options.echo:
            self._put(("played", block, 0.0))
        return block

    def _lose(self, which: str) -> None:
        self._put(("lost", which, 0.0))

    def _put(self, event: Event) -> None:
        try:
            self._events.put_nowait(event)
        except queue.Full:
            self.lost_blocks += 1

    # On the sound thread

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:
            self._on_error(error)

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                kind, data, at = self._events.get(timeout=_RETRY_S)
            except queue.Empty:
                kind, data, at = "nothing", "", 0.0
            if self._stopping.is_set():
                return
            if kind == "lost" and not self.paused:
                self._pause(f"the {data} has gone")
            elif self.paused:
                self._resume()
            elif isinstance(data, np.ndarray):
                self._take(kind, data, at)
            self._watch()

    def _take(self, kind: str, pcm: Pcm, at: float) -> None:
        if kind == "heard":
            self._heard(pcm, at)
        elif kind == "answer":
            self._answer(pcm, at)
        elif kind == "played":
            self._played.append(pcm)

    def _heard(self, block: Pcm, at: float) -> None:
        self._heard_at = at
        self._alive = self._alive or bool(block.any())
        self.silent_s = 0.0 if self._alive else self.silent_s + _BLOCK_S
        pcm = self._from_microphone.push(block[None])[0]
        if self._canceller is not None:
            if self._played:
                played = self._played_back.push(np.concatenate(self._played)[None])
                self._canceller.played(played[0])
                self._played.clear()
            pcm = self._canceller.clean(pcm)
        if self._framer is None:
            # The resampler holds a little back. Without the first block, frames end
            # where blocks end, and wait for nothing.
            self._framer = Framer()
            return
        for frame in self._framer.push(pcm):
            self.heard_level = rms(frame)
            closed = self.muted or (
                self.options.half_duplex and at < self._speaking_until
            )
            self._on_frame(np.zeros_like(frame) if closed else frame, at)

    def _answer(self, pcm: Pcm, heard_at: float) -> None:
        pcm = np.clip(pcm * self.volume, -1.0, 1.0)
        self.played_level = rms(pcm)
        now = time.perf_counter()
        assert self.jitter is not None
        self.jitter.write(self._to_speaker.push(pcm[None])[0], now - heard_at)
        if self.played_level > _SPEAKING_RMS:
            self._speaking_until = (
                now + self.jitter.waiting_s + self.device_latency_s + _HANGOVER_S
            )

    def _watch(self) -> None:
        """A device that sleeps says nothing: it just stops."""
        if self.paused:
            return
        now = time.perf_counter()
        for name, at in (("microphone", self._heard_at), ("speaker", self._read_at)):
            if now - at > _STALLED_S:
                self._pause(f"the {name} has stopped")
                return
        if now - self._looked_at > _LOOK_S:
            self._looked_at = now
            self._follow(system_defaults())

    def _follow(self, defaults: tuple[int, int] | None) -> None:
        """Go on with the system's new default where the user has named no device."""
        if defaults is None or self._defaults is None:
            return
        chosen = self.options.microphone, self.options.speaker
        names = ("microphone", "speaker")
        for name, choice, now, before in zip(
            names, chosen, defaults, self._defaults, strict=True
        ):
            if choice is None and now != before:
                self._pause(f"the system has chosen another {name}")
                return

    def _pause(self, why: str) -> None:
        self._close()
        self._on_notice(f"{why}: looking for another ...")

    def _resume(self) -> None:
        """Look for the chosen devices, else for any."""
        self._stopping.wait(_RETRY_S)
        while not self._events.empty():
            self._events.get_nowait()
        try:
            refresh()
            try:
                self._open(self.options.microphone, self.options.speaker)
            except AudioError:
                self._open(None, None)
        except AudioError as error:
            _log.debug("no device yet: %s", error)
            return
        assert self.microphone is not None and self.speaker is not None
        self._on_notice(
            f"going on with '{self.microphone.device.name}' and "
            f"'{self.speaker.device.name}'."
        )


def _log_error(error: Exception) -> None:
    _log.error("the sound has ended with an error", exc_info=error)


def rms(pcm: Pcm) -> float:
    """Loudness of samples, 1 being full scale."""
    return float(np.sqrt(np.mean(np.square(pcm)))) if len(pcm) else 0.0
