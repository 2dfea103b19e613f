"""Microphone and loudspeaker for commands that use only one of them."""

import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from ..audio.device import Device, Microphone, Speaker, find_device
from ..audio.framing import SAMPLE_RATE, PlaybackRing
from ..audio.resample import Resampler
from ..audio.samples import Pcm
from ..errors import AudioError

logger = logging.getLogger(__name__)

Block = Pcm | None
WAITING_S = 30  # of sound that may wait for the model, or for the loudspeaker
DEAD_S = 3.0  # of zeros from the start: there is no sound at all
DEAD_MICROPHONE = (
    "The microphone gives pure silence. Is it muted? On a Mac, allow it for this "
    "terminal: System Settings, Privacy & Security, Microphone."
)
_BUFFER_S = 0.3  # nobody waits for an answer here, and a busy machine must not crackle


def lacking(devices: Sequence[Device]) -> str | None:
    """What a conversation lacks with these devices, and what to do; None if nothing."""
    kinds = {
        "microphone": any(device.inputs for device in devices),
        "loudspeaker": any(device.outputs for device in devices),
    }
    missing = [name for name, there in kinds.items() if not there]
    if not missing:
        return None
    return (
        f"no {' and no '.join(missing)} was found: plug one in, allow it in the "
        "system's settings, or talk in the browser, with moshi-mlx serve."
    )


@contextmanager
def hear(choice: str | None = None) -> Iterator[Iterator[Pcm]]:
    """Endless blocks of sound at 24 kHz from a microphone.

    Pure silence is what macOS gives programs without permission to listen: it is
    logged.

    Args:
        choice: its number or name; None is the system's.

    Raises: AudioError if there is none, or when it is gone.
    """
    blocks: queue.Queue[Block] = queue.Queue()
    microphone = Microphone(
        find_device("input", choice), blocks.put, lambda: blocks.put(None)
    )

    def heard() -> Iterator[Pcm]:
        resampler = Resampler(microphone.rate, SAMPLE_RATE)
        silent_s: float | None = 0.0  # None once there was a sound, or a warning
        while (block := blocks.get()) is not None:
            if silent_s is not None:
                silent_s += len(block) / microphone.rate
                if block.any():
                    silent_s = None
                elif silent_s > DEAD_S:
                    logger.warning(DEAD_MICROPHONE)
                    silent_s = None
            yield resampler.push(block[None])[0]
        raise AudioError("the microphone is gone: plug it in and start again.")

    microphone.start()
    try:
        yield heard()
    finally:
        microphone.close()


class Player:
    """Plays sound as it is made, without gaps once it has started.

    As a context manager it plays everything before it ends, or stops at once after an
    error (Ctrl-C).

    Args:
        choice: the loudspeaker's number or name; None is the system's default.
        ahead_s: sound to have before playing starts.
    """

    def __init__(self, choice: str | None = None, ahead_s: float = 0.2):
        self._speaker = Speaker(
            find_device("output", choice), self._read, self._lost, _BUFFER_S
        )
        rate = self._speaker.rate
        self._resampler = Resampler(SAMPLE_RATE, rate)
        self._ring = PlaybackRing(WAITING_S * rate)
        self._ahead = round(ahead_s * rate)
        self._moved = threading.Condition()
        self._playing = False
        self._gone = False

    def __enter__(self) -> "Player":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self._speaker.close()

    def play(self, pcm: Pcm) -> None:
        """Append ``pcm [S]`` at 24 kHz; waits while much is still to be played."""
        block = self._resampler.push(pcm[None])[0]
        self._wait(self._ring.capacity - len(block))
        self._ring.write(block)
        if len(self._ring) >= self._ahead:
            self._start()

    def finish(self) -> None:
        """Play all of it, then close the device."""
        self._ring.write(self._resampler.flush()[0])
        on_its_way = round((self._speaker.latency_s + 0.1) * self._speaker.rate)
        self._ring.write(np.zeros(on_its_way, np.float32))
        if len(self._ring):
            self._start()
            self._wait(0)
        self._speaker.close()

    def _start(self) -> None:
        if not self._playing:
            self._playing = True
            self._speaker.start()

    def _wait(self, most: int) -> None:
        """Wait until at most this many samples are left."""
        with self._moved:
            self._moved.wait_for(lambda: self._gone or len(self._ring) <= most)
        if self._gone:
            raise AudioError("the speaker is gone: plug it in and start again.")

    def _read(self, num_samples: int) -> Pcm:
        pcm = self._ring.read(num_samples)
        with self._moved:
            self._moved.notify_all()
        return pcm

    def _lost(self) -> None:
        with self._moved:
            self._gone = True
            self._moved.notify_all()
