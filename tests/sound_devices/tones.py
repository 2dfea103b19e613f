"""Tones that are easy to find again in what was heard."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from tests.sound_devices.pulse import Pulse

_LOUD = 0.1  # of full scale; tones have 0.3
_HOLE_S = 0.002  # of less than that: a tone of 440 Hz passes zero within it
_CLEAR_S = 0.4  # without a hole


def tone(rate: int, seconds: float, hz: float = 440.0) -> np.ndarray:
    t = np.arange(round(rate * seconds)) / rate
    return (0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def loudest_hz(pcm: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    return float(np.argmax(spectrum) * rate / len(pcm))


def clear(pcm: np.ndarray, rate: int) -> np.ndarray | None:
    """The longest stretch ``[S]`` of sound without a hole; None where it is short.

    A machine too busy for its sound card tears holes into what is heard, wherever it
    likes; what lies between them must be what was played.
    """
    loud = np.flatnonzero(np.abs(pcm) > _LOUD)
    if not loud.size:
        return None
    stretches = np.split(loud, np.flatnonzero(np.diff(loud) > _HOLE_S * rate) + 1)
    longest = max(stretches, key=lambda part: part[-1] - part[0])
    first, last = longest[0], longest[-1]
    return pcm[first:last] if last - first > _CLEAR_S * rate else None


@contextmanager
def speaking(pulse: Pulse, pcm: np.ndarray) -> Iterator[None]:
    """Say ``pcm`` again and again into the microphone."""
    enough = threading.Event()

    def speak() -> None:
        while not enough.is_set():
            pulse.say(pcm)

    speaker = threading.Thread(target=speak)
    speaker.start()
    try:
        yield
    finally:
        enough.set()
        speaker.join()
