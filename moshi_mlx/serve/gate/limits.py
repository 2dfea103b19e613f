"""Limits on what a client may send, and on how long it may keep a place."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ...errors import ProtocolError

IMAGE_BYTES = 16 << 20  # Kyutai's page takes files of up to 15 MB
_FRAME_COST = 1024  # bytes to charge for handling a frame, however short it is
# What a connection may save up of its rate beside its address's budget, and what it
# starts with: little, or a client that reconnects often would get it each time.
_OWN_S, _FIRST_S = 2.0, 0.25

Clock = Callable[[], float]


@dataclass(frozen=True)
class Limits:
    """Limits for clients; a client that talks in real time never reaches them.

    Attributes:
        message_bytes: the longest message.
        bytes_per_s, burst_bytes: traffic; float32 samples need 96 kB/s. Each connection
            has the rate, and all connections of an address share the burst.
        sound_per_s, burst_s: seconds of sound per second.
        restarts_per_s, burst_restarts: restarts of conversations.
        idle_s: a client that sends nothing for this long loses its place.
        paused_s: the same for one that has asked for a pause.
        send_s: a client that reads nothing for this long is disconnected.
        read_s: the same for a client that reads sound only as fast as it plays it.
        ping_s: our own silence after which a ping is sent.
        unsent_frames: replies that may wait for a slow reader; older ones are dropped.
        waiting_ms: frames that may wait for the model; then they are dropped.
        session_s: the longest conversation, None for no limit.
        connections, per_address: open at a time, in total and from one address.
        opening_s: time for a request's head, including TLS.
        stall_s: time for the next bytes of a request's body.
        linger_s: time to take the last bytes of a connection that we close.
        upload_bytes: size of a file.
        unsent_bytes: the most that may wait to be read; then the client is
            disconnected.
    """

    message_bytes: int = 1 << 20
    bytes_per_s: float = 400e3
    burst_bytes: float = 4e6
    sound_per_s: float = 1.5
    burst_s: float = 20.0
    restarts_per_s: float = 0.2
    burst_restarts: float = 10
    idle_s: float = 30.0
    paused_s: float = 600.0
    send_s: float = 10.0
    read_s: float = 60.0
    ping_s: float = 5.0
    unsent_frames: int = 50
    waiting_ms: float = 960.0
    session_s: float | None = None
    connections: int = 128
    per_address: int = 48
    opening_s: float = 8.0
    stall_s: float = 10.0
    linger_s: float = 3.0
    unsent_bytes: int = 1 << 20
    upload_bytes: int = 256 << 20

    def with_images(self) -> "Limits":
        """The same, if clients may send a picture as one message.

        Its whole length is charged when it starts, so an address can hardly have more
        than one under way.
        """
        return replace(self, message_bytes=IMAGE_BYTES, burst_bytes=1.2 * IMAGE_BYTES)


class Allowance:
    """A budget that refills with time; spending more than it holds is a flood.

    Args:
        per_s: how fast it refills.
        burst: the most that it can hold.
        what: what is spent, for the message.
        first: what it holds at the start; by default the burst.
    """

    def __init__(
        self,
        per_s: float,
        burst: float,
        what: str,
        clock: Clock = time.monotonic,
        first: float | None = None,
    ):
        self.per_s, self._burst, self._what = per_s, burst, what
        self._clock = clock
        self._left, self._at = burst if first is None else first, clock()

    @property
    def left(self) -> float:
        """The amount that may be spent now."""
        now = self._clock()
        refilled = self._left + (now - self._at) * self.per_s
        self._left, self._at = min(self._burst, refilled), now
        return self._left

    @property
    def full(self) -> bool:
        """Whether it is full, and so equal to a new one."""
        return self.left >= self._burst

    def take(self, amount: float) -> float:
        """Spend up to ``amount``; returns the part that was missing."""
        taken = max(0.0, min(amount, self.left))
        self._left -= taken
        return amount - taken

    def spend(self, amount: float) -> None:
        """Raises ProtocolError if ``amount`` is more than it holds."""
        if self.take(amount) > 0:
            raise ProtocolError(
                f"too much {self._what} came at once: at most {self.per_s:g} a second "
                "is taken, send sound as it is spoken."
            )

    def wait_s(self, amount: float) -> float:
        """Seconds until it holds ``amount``."""
        return max(0.0, min(amount, self._burst) - self.left) / self.per_s


class Account:
    """What all connections of one address together may do beyond real time."""

    def __init__(self, limits: Limits, clock: Clock = time.monotonic):
        self.data = Allowance(
            limits.bytes_per_s, limits.burst_bytes, "data (bytes)", clock
        )
        self.sound = Allowance(
            limits.sound_per_s, limits.burst_s, "sound (seconds)", clock
        )
        self.restarts = Allowance(
            limits.restarts_per_s, limits.burst_restarts, "restarts", clock
        )
        self.connections = 0

    @property
    def spent(self) -> bool:
        """Whether it has to be remembered."""
        kinds = (self.data, self.sound, self.restarts)
        return self.connections > 0 or not all(kind.full for kind in kinds)


def _own(per_s: float, what: str, clock: Clock) -> Allowance:
    return Allowance(per_s, _OWN_S * per_s, what, clock, _FIRST_S * per_s)


class Inflow:
    """Counts everything that one client sends.

    Each connection has its own rate, so a client that talks in real time does not
    depend on others with the same address. Anything beyond that rate comes out of the
    address's budget, which a new connection does not refill.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Clock = time.monotonic,
        account: Account | None = None,
    ):
        self.account = Account(limits, clock) if account is None else account
        self._bytes = _own(limits.bytes_per_s, "data (bytes)", clock)
        self._sound = _own(limits.sound_per_s, "sound (seconds)", clock)

    def message(self, size: int) -> None:
        """Charge a frame of any kind; raises ProtocolError for a flood."""
        self.account.data.spend(self._bytes.take(_FRAME_COST + size))

    def owed_s(self, size: int) -> float:
        """Charge a frame, a quarter of its size: protocols that wait for their clients
        send samples as MessagePack or base64, and whole files at once.

        Returns: seconds to wait before taking the next one.
        """
        cost = _FRAME_COST + size / 4
        missing = self.account.data.take(self._bytes.take(cost))
        return missing / self._bytes.per_s

    def sound(self, seconds: float) -> None:
        """Charge sound; raises ProtocolError if it comes too fast."""
        self.account.sound.spend(self._sound.take(seconds))

    async def paced(self, seconds: float) -> None:
        """Charge sound, and wait if it comes too fast. Nothing is read meanwhile, so
        the sender is slowed down instead of refused."""
        while (seconds := self.account.sound.take(self._sound.take(seconds))) > 0:
            await asyncio.sleep(min(1.0, self._sound.wait_s(seconds)) + 0.01)

    def image(self) -> None:
        """Charge a picture as a restart; raises ProtocolError for too many."""
        if self.account.restarts.take(1) > 0:
            raise ProtocolError(
                "too many pictures: wait some seconds before you show another."
            )

    def restart(self) -> None:
        """Charge a restart; raises ProtocolError for too many."""
        if self.account.restarts.take(1) > 0:
            raise ProtocolError(
                "too many restarts: wait some seconds before you restart again."
            )
