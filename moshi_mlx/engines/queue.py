"""What happens when frames come faster than the model can hear them."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..audio.framing import FRAME_MS, rms
from ..utils.trace import percentile

_FLOOR_FRAMES = 125  # 10 s: how far back to look for the quietest frames
_FLOOR_RISE = 2.0  # 6 dB above the room's noise is still silence
_SILENCE_RMS = 10 ** (-55 / 20)  # full scale is 1; below this no one speaks


def frames_in(milliseconds: float) -> int:
    """Whole frames in ``milliseconds``, at least one."""
    return max(1, int(milliseconds // FRAME_MS))


@dataclass
class Dropped:
    """Frames of the user that the model never heard, and why.

    Attributes:
        silent: nobody spoke in them; they were dropped so that the model could catch
            up.
        spoken: speech that was lost, because only speech was waiting.
    """

    silent: int = 0
    spoken: int = 0

    @property
    def total(self) -> int:
        return self.silent + self.spoken


class SilenceGate:
    """Tells silence from speech by level, above this room's noise."""

    def __init__(self) -> None:
        self._levels: deque[float] = deque(maxlen=_FLOOR_FRAMES)

    def __call__(self, frame: NDArray[np.float32]) -> bool:
        """Whether nobody speaks in ``frame [S]``; learns the room's noise from it."""
        level = rms(frame)
        self._levels.append(level)
        floor = percentile(self._levels, 10)
        return level < _SILENCE_RMS or level < min(
            _FLOOR_RISE * floor, 10 * _SILENCE_RMS
        )


@dataclass(frozen=True)
class Waiting:
    """A frame on its way to the model.

    Attributes:
        frame: float32 ``[1920]``.
        heard_at: when its last sample arrived, in seconds of ``time.perf_counter``.
        silent: nobody speaks in it.
    """

    frame: NDArray[np.float32]
    heard_at: float
    silent: bool


Full = Literal["drop", "wait"]


class FrameQueue:
    """Frames that wait for the model, never more than ``limit_ms`` of them.

    Not thread-safe: the model thread's lock guards it.

    Args:
        limit_ms: most sound that may wait.
        calm_ms: sound that may wait before silence is dropped.
        full: what happens to a full queue. "drop" suits live sound: up to ``calm_ms``
            may wait, so a short hiccup costs nothing; beyond that the oldest silent
            frames are dropped, and beyond ``limit_ms`` the oldest frames of any kind.
            "wait" suits files and uploads: nothing is dropped, and the next frame has
            to wait for room.
    """

    def __init__(
        self, limit_ms: float = 480, calm_ms: float = 160, full: Full = "drop"
    ):
        self.dropped = Dropped()
        self._drops = full == "drop"
        self._limit = frames_in(limit_ms)
        self._calm = min(frames_in(calm_ms), self._limit)
        self._is_silent = SilenceGate()
        self._waiting: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def waiting_ms(self) -> float:
        """Milliseconds of sound that wait."""
        return len(self) * FRAME_MS

    @property
    def has_room(self) -> bool:
        """Whether another frame fits; always true if frames are dropped."""
        return self._drops or len(self) < self._limit

    def put(self, frame: NDArray[np.float32], heard_at: float) -> None:
        """Append ``frame``; others may be dropped."""
        if not self._drops:
            self._waiting.append(Waiting(frame, heard_at, False))
            return
        self._waiting.append(Waiting(frame, heard_at, self._is_silent(frame)))
        while len(self) > self._calm and self._drop_silence():
            self.dropped.silent += 1
        while len(self) > self._limit:
            self._waiting.popleft()
            self.dropped.spoken += 1

    def get(self) -> Waiting:
        """The frame that has waited longest."""
        return self._waiting.popleft()

    def clear(self) -> None:
        """Drop waiting frames without counting them: a conversation starts again."""
        self._waiting.clear()

    def _drop_silence(self) -> bool:
        for i, waiting in enumerate(self._waiting):
            if waiting.silent:
                del self._waiting[i]
                return True
        return False
