"""How much one client may send, and how long it may keep a place."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ...errors import ProtocolError

_MESSAGE_COST = 256  # bytes that handling a message costs, however short it is


@dataclass(frozen=True)
class Limits:
    """Bounds on one connection; nobody who talks in real time meets them.

    Attributes:
        message_bytes: the longest message.
        bytes_per_s, burst_bytes: traffic; float32 samples need 96 kB/s.
        sound_per_s, burst_s: seconds of sound per second.
        idle_s: a client that sends nothing for so long loses its place.
        paused_s: the same for one that has asked for a pause.
        send_s: a client that takes nothing for so long is let go.
        ping_s: silence of ours after which a ping is sent.
        unsent_frames: replies that may wait for a slow reader; then the oldest go.
        waiting_ms: frames that may wait for the model; then they are dropped.
        session_s: the longest conversation, None for no end.
    """

    message_bytes: int = 1 << 20
    bytes_per_s: float = 400e3
    burst_bytes: float = 4e6
    sound_per_s: float = 1.5
    burst_s: float = 20.0
    idle_s: float = 30.0
    paused_s: float = 600.0
    send_s: float = 10.0
    ping_s: float = 5.0
    unsent_frames: int = 50
    waiting_ms: float = 960.0
    session_s: float | None = None


class Allowance:
    """Something that refills with time; spending more than is there is a flood.

    Args:
        per_s: how fast it refills.
        burst: how much can be saved up.
        what: what is spent, for the message.
    """

    def __init__(
        self,
        per_s: float,
        burst: float,
        what: str,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._per_s, self._burst, self._what = per_s, burst, what
        self._clock = clock
        self._left, self._at = burst, clock()

    def spend(self, amount: float) -> None:
        """Raises ProtocolError where ``amount`` is more than is left."""
        now = self._clock()
        refilled = self._left + (now - self._at) * self._per_s
        self._left, self._at = min(self._burst, refilled) - amount, now
        if self._left < 0:
            raise ProtocolError(
                f"too much {self._what} came at once: at most {self._per_s:g} a second "
                "is taken, send sound as it is spoken."
            )


class Inflow:
    """Everything that one client sends."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic):
        self._bytes = Allowance(
            limits.bytes_per_s, limits.burst_bytes, "data (bytes)", clock
        )
        self._sound = Allowance(
            limits.sound_per_s, limits.burst_s, "sound (seconds)", clock
        )

    def message(self, size: int) -> None:
        self._bytes.spend(_MESSAGE_COST + size)

    def sound(self, seconds: float) -> None:
        self._sound.spend(seconds)
