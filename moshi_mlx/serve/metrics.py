"""The server's metrics, in the text format of Prometheus (version 0.0.4)."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

STEP_BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.25, 1.0)


class Counter:
    """Counters that only grow, one for each value of a label."""

    def __init__(self, name: str, what: str, label: str, values: tuple[str, ...]):
        self.name, self.what, self.label = name, what, label
        self.counts = dict.fromkeys(values, 0)

    def add(self, value: str, count: int = 1) -> None:
        self.counts[value] += count

    def lines(self) -> list[str]:
        return [
            f"# HELP {self.name} {self.what}",
            f"# TYPE {self.name} counter",
            *(f'{self.name}{{{self.label}="{v}"}} {n}' for v, n in self.counts.items()),
        ]


class Histogram:
    """A histogram.

    Args:
        bounds: upper ends of the buckets.
        label: of every line, as in 'kind="x"'; none by default.
    """

    def __init__(self, name: str, what: str, bounds: Sequence[float], label: str = ""):
        self.name, self.what, self.bounds, self.label = name, what, bounds, label
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self) -> list[str]:
        out = [f"# HELP {self.name} {self.what}", f"# TYPE {self.name} histogram"]
        total, name = 0, self.name
        before = f"{self.label}," if self.label else ""
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            total += count
            out.append(f'{name}_bucket{{{before}le="{bound}"}} {total}')
        label = f"{{{self.label}}}" if self.label else ""
        out.append(f"{name}_sum{label} {self.sum:.6f}")
        return [*out, f"{name}_count{label} {total}"]


class Metrics:
    """All metrics. Used by the event loop's thread only."""

    def __init__(self) -> None:
        self.connections = Counter(
            *("moshi_connections_total", "Connections, by how they ended.", "end"),
            ("closed", "refused", "busy", "misused", "idle", "slow", "failed"),
        )
        self.frames = Counter(
            *("moshi_frames_total", "Frames of 80 ms, by direction.", "direction"),
            ("heard", "said"),
        )
        self.dropped = Counter(
            *("moshi_dropped_frames_total", "Frames left out, by what was in", "kind"),
            ("silent", "spoken", "unsent"),
        )
        self.step = Histogram(
            "moshi_step_seconds", "One step of the model.", STEP_BUCKETS_S
        )
        self.lag = Histogram(
            *("moshi_lag_seconds", "From a frame's arrival to its answer."),
            STEP_BUCKETS_S,
        )

    def text(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> str:
        """All metrics, with ``gauges``: name to meaning and value."""
        lines: list[str] = []
        parts = (self.connections, self.frames, self.dropped, self.step, self.lag)
        for part in parts:
            lines += part.lines()
        for name, (what, read) in gauges.items():
            lines += [f"# HELP {name} {what}", f"# TYPE {name} gauge"]
            lines.append(f"{name} {read():g}")
        return "\n".join(lines) + "\n"
