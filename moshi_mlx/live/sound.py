"""The sound of a live conversation: microphone to frames, answers to loudspeaker.

One thread does everything that takes time. It sleeps on a queue; the devices' callbacks
and the model thread only copy into it.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..audio.device import BLOCK_MS
from ..audio.framing import SAMPLE_RATE, rms
from ..audio.resample import Resampler
from ..audio.samples import Pcm
from ..errors import AudioError
from .echo import EchoCanceller
from .ends import Choice, Ends
from .hearing import Hearing
from .jitter import JitterBuffer

_log = logging.getLogger(__name__)

Event = tuple[Literal["heard", "answer", "lost"], Pcm | str, float]

_MOST_EVENTS = 16  # over half a second of frames and of answers
_RETRY_S = 1.0  # between attempts to find a device again
_SPEAKING_RMS = 0.004  # full scale is 1
_HANGOVER_S = 0.3  # half duplex: the room still echoes


@dataclass(frozen=True)
class SoundOptions:
    """Settings of a conversation's sound.

    Attributes:
        microphone, speaker: number or name of a device; None is the system's default.
        echo: remove the loudspeaker's sound from the microphone.
        half_duplex: do not listen while Moshi speaks.
        noise_suppression, gain_control: clean and level the user's voice.
        buffer_ms: sound that each device buffers; None for as little as possible. More
            keeps a busy machine from crackling, and delays Moshi's answer by the same
            time.
    """

    microphone: Choice = None
    speaker: Choice = None
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
        options: the devices, and the processing of the sound.
        on_frame: called on the sound thread with every recorded frame ``[1920]`` at 24
            kHz, and the time of its last sample (``time.perf_counter``).
        on_notice: called there with a sentence for the user: devices lost and found.
        on_error: called there if the sound cannot continue; by default it is logged.
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
        self.lost_frames = 0  # frames that the sound thread was too slow for
        self.jitter: JitterBuffer | None = None  # None before the first opening
        self.ends = Ends(
            *(options.microphone, options.speaker, options.buffer_s),
            hear=self._hear,
            read=self._read,
            on_open=self._begin,
            on_lost=lambda which: self._put(("lost", which, 0.0)),
        )
        self._on_frame = on_frame
        self._on_notice = on_notice
        self._on_error = on_error or _log_error
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="moshi-sound", daemon=True
        )
        self._hearing: Hearing | None = None
        self._played_level = self._speaking_until = 0.0

    # From any thread

    def start(self) -> None:
        """Open the devices and start. Raises: AudioError if there is none."""
        self.ends.open()
        self._thread.start()

    def stop(self) -> None:
        """Fall silent and close the devices."""
        self._stopping.set()
        self._put(("lost", "", 0.0))
        if self._thread.is_alive():
            self._thread.join(5)
        self.ends.close()

    def play(self, pcm: Pcm, heard_at: float) -> None:
        """Queue Moshi's frame ``[1920]``, the answer to what was heard at that time."""
        self._put(("answer", pcm, heard_at))

    def hush(self) -> None:
        """Drop the sound that is still to be played."""
        if self.jitter is not None:
            self.jitter.clear()

    @property
    def paused(self) -> bool:
        """Whether there is no device to hear or speak with."""
        return self.ends.microphone is None

    @property
    def echo_delay_s(self) -> float | None:
        """Delay from loudspeaker to microphone; None if no echo was heard."""
        canceller = self._hearing and self._hearing.canceller
        return canceller.delay_s if canceller else None

    @property
    def heard_level(self) -> float:
        """Loudness of the newest frame, 1 being full scale."""
        return self._hearing.level if self._hearing and not self.paused else 0.0

    @property
    def played_level(self) -> float:
        """The same for Moshi's newest frame."""
        return 0.0 if self.paused else self._played_level

    @property
    def silent_s(self) -> float:
        """How long the microphone has given only zeros since it was opened."""
        return self._hearing.silent_s if self._hearing else 0.0

    def _begin(self, heard_hz: int, played_hz: int) -> None:
        """Start with new devices of these rates: everything about the old ones is
        dropped."""
        o, canceller = self.options, None
        if o.cleans:
            canceller = EchoCanceller(
                echo=o.echo,
                noise_suppression=o.noise_suppression,
                gain_control=o.gain_control,
            )
        self._to_speaker = Resampler(SAMPLE_RATE, played_hz)
        self.jitter = JitterBuffer(played_hz, BLOCK_MS["output"] / 1000)
        self._hearing = Hearing(heard_hz, played_hz, canceller)
        self._played_level = 0.0

    # On PortAudio's threads: copy, no more

    def _hear(self, block: Pcm) -> None:
        assert self._hearing is not None
        pcm = self._hearing.collect(block)
        if pcm is not None:
            self._put(("heard", pcm, time.perf_counter()))

    def _read(self, num_samples: int) -> Pcm:
        assert self.jitter is not None and self._hearing is not None
        block = self.jitter.read(num_samples)
        if self.options.echo:
            self._hearing.played(block)
        return block

    def _put(self, event: Event) -> None:
        if self._events.qsize() < _MOST_EVENTS:
            self._events.put(event)
        else:
            self.lost_frames += 1

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
                (self._heard if kind == "heard" else self._answer)(data, at)
            if not self.paused and (trouble := self.ends.trouble()):
                self._pause(trouble)

    def _heard(self, pcm: Pcm, at: float) -> None:
        assert self._hearing is not None
        closed = self.muted or (self.options.half_duplex and at < self._speaking_until)
        for frame in self._hearing.frames(pcm):
            self._on_frame(np.zeros_like(frame) if closed else frame, at)

    def _answer(self, pcm: Pcm, heard_at: float) -> None:
        pcm = np.clip(pcm * self.volume, -1.0, 1.0)
        self._played_level = rms(pcm)
        now = time.perf_counter()
        assert self.jitter is not None
        self.jitter.write(self._to_speaker.push(pcm[None])[0], now - heard_at)
        if self._played_level > _SPEAKING_RMS:
            left_s = self.jitter.waiting_s + self.ends.latency_s
            self._speaking_until = now + left_s + _HANGOVER_S

    def _pause(self, why: str) -> None:
        self.ends.close()
        self._on_notice(f"{why}: looking for another ...")

    def _resume(self) -> None:
        """Look for the chosen devices, or else for any."""
        self._stopping.wait(_RETRY_S)
        while not self._events.empty():
            self._events.get_nowait()
        try:
            self.ends.reopen()
        except AudioError as error:
            _log.debug("no device yet: %s", error)
            return
        microphone, speaker = self.ends.microphone, self.ends.speaker
        assert microphone is not None and speaker is not None
        self._on_notice(
            f"continuing with '{microphone.device.name}' and '{speaker.device.name}'."
        )


def _log_error(error: Exception) -> None:
    _log.error("the sound has ended with an error", exc_info=error)
