"""Keep a model in the GPU's memory while people talk with it.

Between two frames a GPU has nothing to do. macOS then pages out MLX's memory and lowers
the GPU's clock: published measurements of a 7B model show 56 ms per step in a row, and
315 ms after one second of rest. MLX prevents the first only when asked (its *wired
limit*, macOS 15 or newer), so a loaded model asks for what it needs. The buffers that
MLX keeps for reuse are capped too, so that a long prompt does not hold memory for the
rest of a conversation. Both limits belong to the process: they grow with each model
that is loaded, and are reset when the last one is closed. On a CPU, and on older
systems, nothing is changed.

The clock stays up if the GPU has work: while a conversation is open but muted, the
model computes a frame and discards it every ``IDLE_S`` (``Moshi.scratch_frame``).
"""

import logging
import platform
import threading
import weakref
from collections.abc import Callable

import mlx.core as mx

from ..checkpoint.memory import Footprint

logger = logging.getLogger(__name__)

MARGIN = 1.1  # of the footprint: activations, alignment of buffers
CACHE_BYTES = 512 * 2**20  # many times what the buffers of a frame take
IDLE_S = 0.8  # after this long without a frame, a model computes one and discards it
WIRES_SINCE = 15  # macOS

Free = Callable[[], object]

_lock = threading.RLock()  # a batch may be collected while it is held
_held: "list[Residency]" = []
_before: tuple[int, int] | None = None  # wired and cache limit without us


def can_wire() -> bool:
    """Whether this system keeps memory resident when MLX asks for it."""
    if mx.default_device().type != mx.DeviceType.gpu or not mx.metal.is_available():
        return False
    release = platform.mac_ver()[0].partition(".")[0]
    return release.isdigit() and int(release) >= WIRES_SINCE


class Residency:
    """Holds a model's memory resident until it is released.

    Room for one session is always part of it.

    Args:
        footprint: of the model.
        name: of the model, for the log.
    """

    def __init__(self, footprint: Footprint, name: str = "a model"):
        self.name = name
        self._footprint = footprint
        self._sessions = 0

    @property
    def nbytes(self) -> int:
        """The memory to keep resident."""
        return int(MARGIN * self._footprint.total(max(1, self._sessions)))

    def add(self, sessions: int) -> None:
        """Count the caches of this many more sessions (fewer, if negative)."""
        with _lock:
            self._sessions += sessions
            if self in _held:
                _apply()

    def hold(self) -> "Residency":
        """Raise the process's limits for this model; holding it twice does nothing."""
        with _lock:
            if can_wire() and self not in _held:
                _held.append(self)
                _apply()
                logger.info("%s: %s", self.name, describe())
        return self

    def release(self) -> None:
        """Lower the limits again; releasing it twice does nothing."""
        with _lock:
            if self in _held:
                _held.remove(self)
                _apply()

    def __enter__(self) -> "Residency":
        return self.hold()

    def __exit__(self, *_: object) -> None:
        self.release()


def keep_resident(engine: object, footprint: Footprint, name: str) -> Residency:
    """Hold the memory of a model until it is released, or ``engine`` is deleted."""
    residency = Residency(footprint, name=name).hold()
    weakref.finalize(engine, residency.release).atexit = False
    return residency


def count_sessions(residency: Residency | None, batch: object, rows: int) -> Free:
    """Count a batch's sessions until the result is called, or ``batch`` is deleted."""
    if residency is None:
        return lambda: None
    residency.add(rows)
    done = weakref.finalize(batch, residency.add, -rows)
    done.atexit = False
    return done


def _apply() -> None:
    """Set both limits to what is held now, or back to their original values."""
    global _before
    if not _held:
        if _before is not None:
            wired, cache = _before
            mx.synchronize()  # frames that still run use what is wired
            mx.set_wired_limit(wired)
            mx.set_cache_limit(cache)
            _before = None
        return
    wired = mx.set_wired_limit(_wanted())
    cache = mx.set_cache_limit(CACHE_BYTES)
    if _before is None:
        _before = wired, cache


def _wanted() -> int:
    """Bytes to wire: what is held, up to the system's recommendation for a GPU."""
    most = mx.device_info().get("max_recommended_working_set_size", 0)
    return min(sum(model.nbytes for model in _held), int(most))


def describe() -> str:
    """What is kept resident now, as a sentence without a full stop."""
    if not can_wire():
        return "nothing is wired: that needs an Apple GPU and macOS 15 or newer"
    wired = f"{_wanted() / 1e9:.1f} GB wired" if _held else "nothing is wired yet"
    return f"{wired}, at most {CACHE_BYTES / 2**20:.0f} MiB kept for reuse"
