"""Counts of live rows, with the metric names of Kyutai's moshi-server."""

from bisect import bisect_left
from collections.abc import Sequence

from ..engines.line import Answer

STEP_S = (0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08)
NUM_STEPS = (2, 25, 62, 125, 250, 500, 750, 1000)  # of a connection
FIRST_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)


class Spread:
    """A Prometheus histogram with moshi-server's label."""

    def __init__(self, name: str, what: str, bounds: Sequence[float]):
        self.name, self.what, self.bounds = name, what, bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self) -> list[str]:
        label, total = 'handler="all"', 0
        out = [f"# HELP {self.name} {self.what}", f"# TYPE {self.name} histogram"]
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            total += count
            out.append(f'{self.name}_bucket{{{label},le="{bound}"}} {total}')
        out.append(f"{self.name}_sum{{{label}}} {self.sum:.6f}")
        return [*out, f"{self.name}_count{{{label}}} {total}"]


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
        self.step = Spread(
            f"{prefix}_model_step_duration", "Seconds of a step.", STEP_S
        )
        middle = "model_connection" if prefix == "py" else "connection"
        self.num_steps = Spread(
            f"{prefix}_{middle}_num_steps", "Steps of a connection.", NUM_STEPS
        )
        self.final = Spread(
            "moshi_final_word_seconds", "From a sound's end to its last word.", FIRST_S
        )
        self.first = Spread(
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
        lines = []
        for name, value in counters.items():
            lines += [f"# HELP {name} {name}.", f"# TYPE {name} counter"]
            lines.append(f'{name}{{handler="all"}} {value}')
        name = f"{self._prefix}_open_channels"
        lines += [f"# HELP {name} Rows in use.", f"# TYPE {name} gauge"]
        lines.append(f'{name}{{handler="all"}} {self.open}')
        lines += [*self.step.lines(), *self.num_steps.lines()]
        lines += (self.first if self._prefix == "py" else self.final).lines()
        return "\n".join(lines) + "\n"
