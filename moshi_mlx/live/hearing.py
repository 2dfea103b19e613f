"""From a microphone's blocks to frames without echo, with one wake-up per frame."""

from collections import deque

import numpy as np

from ..audio.device import BLOCK_MS
from ..audio.framing import FRAME, SAMPLE_RATE, Framer, rms
from ..audio.resample import Resampler
from ..audio.samples import Pcm
from .echo import EchoCanceller

_FRAME_MS = 1000 * FRAME // SAMPLE_RATE
_BLOCKS = _FRAME_MS // BLOCK_MS["input"]  # per frame
_MOST_PLAYED = 64  # blocks of the loudspeaker that wait for the microphone's: 1.3 s


class Hearing:
    """The processing of the microphone's sound while its devices stay open.

    ``collect`` and ``played`` only store, for the devices' callbacks. Everything that
    takes time is in ``frames``, on a thread that wakes up once per frame.

    Args:
        rate: of the microphone, in Hz.
        speaker_rate: of the loudspeaker.
        canceller: removes the loudspeaker's sound; None changes nothing.
    """

    def __init__(self, rate: int, speaker_rate: int, canceller: EchoCanceller | None):
        self.level = 0.0  # rms of the newest frame
        self.silent_s = 0.0  # of zeros from the start
        self.canceller = canceller
        self._alive = False  # it has given something else than zeros
        self._blocks: list[Pcm] = []
        self._played: deque[Pcm] = deque(maxlen=_MOST_PLAYED)
        self._to_model = Resampler(rate, SAMPLE_RATE)
        self._played_back = Resampler(speaker_rate, SAMPLE_RATE)
        self._framer: Framer | None = None

    def collect(self, block: Pcm) -> Pcm | None:
        """Take a block ``[S]``; returns all of them ``[S']`` when they make a frame."""
        self._blocks.append(block)
        if len(self._blocks) < _BLOCKS:
            return None
        blocks, self._blocks = self._blocks, []
        return np.concatenate(blocks)

    def played(self, block: Pcm) -> None:
        """Take the loudspeaker's sound, ``[S]`` at its rate."""
        self._played.append(block)

    def frames(self, pcm: Pcm) -> list[Pcm]:
        """The result of ``collect`` as frames ``[1920]`` at 24 kHz."""
        self._alive = self._alive or bool(pcm.any())
        self.silent_s = 0.0 if self._alive else self.silent_s + _FRAME_MS / 1000
        pcm = self._to_model.push(pcm[None])[0]
        if self.canceller is not None:
            pcm = self._without_echo(self.canceller, pcm)
        if self._framer is None:
            # The resampler holds a little back. Without the first frame's blocks,
            # frames end where blocks end, and wait for nothing.
            self._framer = Framer()
            return []
        frames = self._framer.push(pcm)
        if frames:
            self.level = rms(frames[-1])
        return frames

    def _without_echo(self, canceller: EchoCanceller, pcm: Pcm) -> Pcm:
        played = [self._played.popleft() for _ in range(len(self._played))]
        if played:
            canceller.played(self._played_back.push(np.concatenate(played)[None])[0])
        return canceller.clean(pcm)
