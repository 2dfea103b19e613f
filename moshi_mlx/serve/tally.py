"""Counts of live rows, with the metric names of Kyutai's moshi-server."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

from ..engines.line import Answer
from .metrics import Histogram

STEP_S = (0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08)
NUM_STEPS = (2, 25, 62, 125, 250, 500, 750, 1000)  # of a connection
FIRST_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
_LABEL = 'handler="all"'  # of everything that moshi-server counts


def _histogram(name: str, what: str, bounds: Sequence[float]) -> Histogram:
    return Histogram(name, what, bounds, _LABEL)


def _value(name: str, kind: str, value: int) -> list[str]:
    about = [f"# HELP {name} {name}.", f"# TYPE {name} {kind}"]
    return [*about, f"{name}{{{_LABEL}}} {value}"]


class Tally:
    """Counts of one kind of live rows.

    Args:
        prefix: "asr" or "py", as moshi-server calls them.
    """

    def __init__(self, prefix: str):
        self._prefix = prefix
        self.connects = self.open = self.steps = self.row_steps = 0
        self.possible_steps = self.hungry_steps = 0
        self._last_step = 0.0
        self.step = _histogram(
            f"{prefix}_model_step_duration", "Seconds of a step.", STEP_S
        )
        middle = "model_connection" if prefix == "py" else "connection"
        self.num_steps = _histogram(
            f"{prefix}_{middle}_num_steps", "Steps of a connection.", NUM_STEPS
        )
        self.final = _histogram(
            "moshi_final_word_seconds", "From a sound's end to its last word.", FIRST_S
        )
        self.first = _histogram(
            "moshi_first_audio_seconds", "From text to the first sound.", FIRST_S
        )

    def opened(self) -> None:
        self.connects += 1
        self.open += 1

    def closed(self, steps: int) -> None:
        """Count a connection that ended after this many steps."""
        self.open -= 1
        self.num_steps.observe(steps)

    def stepped(self, answer: Answer, hungry: bool = False) -> None:
        """Count a row's step; a step that rows share counts once.

        Args:
            hungry: whether the row waits for more text.
        """
        self.row_steps += 1
        self.hungry_steps += hungry
        if answer.began_at != self._last_step:
            self._last_step = answer.began_at
            self.steps += 1
            self.possible_steps += self.open
            self.step.observe(answer.step_s)

    def text(self) -> str:
        """In Prometheus' text format."""
        counters = {f"{self._prefix}_connect": self.connects}
        if self._prefix == "py":
            counters |= {
                "py_total_steps": self.steps,
                "py_active_steps": self.row_steps,
                "py_missing_words_steps": self.hungry_steps,
                "py_could_have_run_steps": self.possible_steps,
            }
        lines: list[str] = []
        for name, value in counters.items():
            lines += _value(name, "counter", value)
        lines += _value(f"{self._prefix}_open_channels", "gauge", self.open)
        lines += [*self.step.lines(), *self.num_steps.lines()]
        lines += (self.first if self._prefix == "py" else self.final).lines()
        return "\n".join(lines) + "\n"


class PostTally:
    """Counts of recordings that became voices."""

    def __init__(self) -> None:
        self.connects = 0
        self.duration = _histogram(
            "py_post_model_duration", "Seconds to make a voice.", FIRST_S
        )

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count a request, and how long it takes if it succeeds."""
        self.connects += 1
        began = perf_counter()
        yield
        self.duration.observe(perf_counter() - began)

    def text(self) -> str:
        """In Prometheus' text format."""
        lines = _value("py_post_connect", "counter", self.connects)
        return "\n".join([*lines, *self.duration.lines()]) + "\n"
