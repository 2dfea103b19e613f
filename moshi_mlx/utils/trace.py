"""How long each stage of a frame takes, in bounded memory; a Chrome trace on request.

::

    trace = Trace()
    with trace.stage("encode"):
        ...
    trace.summary()["encode"].p95_ms
"""

import json
import os
import threading
import time
from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from .whole_files import write_whole

_WINDOW = 16_384  # timings a stage keeps: 22 minutes of frames, 128 KiB


@dataclass(frozen=True)
class Timing:
    """The time of a stage, in milliseconds; p50 and p95 of its newest calls.

    Attributes:
        count: calls since the start.
        mean_ms, max_ms: over all of them.
    """

    count: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    max_ms: float


class _History:
    """The newest durations of one stage, in a ring, and sums over all of them."""

    def __init__(self, window: int):
        self._ring = array("d")
        self._window = window
        self.count = 0
        self.total_s = 0.0
        self.max_s = 0.0

    def add(self, seconds: float) -> None:
        if len(self._ring) < self._window:
            self._ring.append(seconds)
        else:
            self._ring[self.count % self._window] = seconds
        self.count += 1
        self.total_s += seconds
        self.max_s = max(self.max_s, seconds)

    def newest(self) -> list[float]:
        """The durations that the ring holds, oldest first."""
        start = self.count % self._window if self.count > self._window else 0
        return [*self._ring[start:], *self._ring[:start]]


class _Stage:
    """A ``with`` block that times itself; one object per call, so stages may nest."""

    __slots__ = ("_name", "_start_s", "_trace")

    def __init__(self, trace: "Trace", name: str):
        self._trace = trace
        self._name = name

    def __enter__(self) -> None:
        self._start_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._trace.add(self._name, self._start_s, time.perf_counter())


class Laps:
    """Consecutive stages: each lasts from the end of the previous one.

    For work that is handed to the device all at once. Made by ``Trace.laps``; it starts
    now.
    """

    def __init__(self, trace: "Trace"):
        self._trace = trace
        self._begun_s = time.perf_counter()

    def until_now(self, name: str) -> None:
        """Record the stage that ends now; the next one starts."""
        now_s = time.perf_counter()
        self._trace.add(name, self._begun_s, now_s)
        self._begun_s = now_s


class Trace:
    """Timings of named stages, from any thread.

    Args:
        window: newest calls of each stage for percentiles.
        events: newest calls of all stages for ``write_chrome``; 0 keeps none.
        apart: wait for each stage before the next one starts. Otherwise work overlaps,
            and a stage's time is only what was still to be waited for.
    """

    def __init__(self, window: int = _WINDOW, events: int = 0, *, apart: bool = False):
        self.apart = apart
        self._window = window
        self._stages: dict[str, _History] = {}
        self._events: deque[tuple[str, float, float, int]] = deque(maxlen=events)
        self._threads: dict[int, str] = {}
        self._lock = threading.Lock()

    def stage(self, name: str) -> _Stage:
        """Time the body of a ``with`` statement."""
        return _Stage(self, name)

    def laps(self) -> Laps:
        """Time consecutive stages from now on."""
        return Laps(self)

    def add(self, name: str, start_s: float, end_s: float) -> None:
        """Record a call; times are of ``time.perf_counter``."""
        with self._lock:
            if name not in self._stages:
                self._stages[name] = _History(self._window)
            self._stages[name].add(end_s - start_s)
            if self._events.maxlen:
                thread = threading.get_ident()
                self._events.append((name, start_s, end_s, thread))
                self._threads[thread] = threading.current_thread().name

    def durations_ms(self, name: str) -> list[float]:
        """The newest calls of a stage, oldest first, in milliseconds."""
        with self._lock:
            stage = self._stages.get(name)
            return [1000 * s for s in stage.newest()] if stage else []

    def summary(self) -> dict[str, Timing]:
        """The times of each stage, in the order of their first call."""
        with self._lock:
            stages = {name: (s, s.newest()) for name, s in self._stages.items()}
        return {
            name: Timing(
                count=stage.count,
                mean_ms=1000 * stage.total_s / stage.count,
                p50_ms=1000 * percentile(newest, 50),
                p95_ms=1000 * percentile(newest, 95),
                max_ms=1000 * stage.max_s,
            )
            for name, (stage, newest) in stages.items()
        }

    def write_chrome(self, path: str | Path) -> None:
        """Write the kept events for chrome://tracing or ui.perfetto.dev."""
        process = os.getpid()
        with self._lock:
            events, threads = list(self._events), dict(self._threads)
        rows: list[dict[str, object]] = [
            dict(
                ph="M", name="thread_name", pid=process, tid=thread, args={"name": name}
            )
            for thread, name in threads.items()
        ]
        for name, start_s, end_s, thread in events:
            times = {"ts": 1e6 * start_s, "dur": 1e6 * (end_s - start_s)}
            rows.append(dict(ph="X", name=name, pid=process, tid=thread, **times))
        write_whole(Path(path), json.dumps({"traceEvents": rows}))


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that ``percent`` of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]
