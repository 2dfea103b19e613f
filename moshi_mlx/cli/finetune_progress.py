"""The output of `finetune` while it trains."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..finetune.estimate import Estimate
    from ..finetune.loop import Line
    from ..finetune.prepare import PreparedTraining
    from ..finetune.settings import TrainSettings


class Printed:
    """Prints lines of metrics.jsonl for people, one for several steps.

    Args:
        quiet: print nothing, for all processes except the first.
    """

    def __init__(self, settings: "TrainSettings", quiet: bool = False):
        self._settings = settings
        self._quiet = quiet
        self._losses: list[float] = []
        self._tokens = 0
        self._since = time.perf_counter()

    def begin(self, prepared: "PreparedTraining", needs: "Estimate") -> None:
        """Print what is trained, on what, and the resources that it takes."""
        from ..finetune.estimate import seconds

        if self._quiet:
            return
        learnt, own, valid = (sum(map(len, part)) for part in prepared.data)
        settings = self._settings
        again = f"{own} that the model answered itself, " if own else ""
        dtype = prepared.lm.out_norm["weight"].dtype
        took = seconds(needs.flops, dtype) * settings.iters / prepared.ranks.size
        print(
            f"{learnt} windows of {settings.window:g} s to learn from, {again}{valid} "
            f"to evaluate on; {needs.trained / 1e6:.2f} M of the model's numbers are "
            "trained"
        )
        print(
            f"Computed, not measured: {needs.total / 1e9:.1f} GB of memory ({needs}), "
            f"at least {clock(took)} for {settings.iters} steps"
        )
        self._since = time.perf_counter()

    def __call__(self, line: "Line") -> None:
        if self._quiet:
            return
        if "stopped" in line:
            print(
                f"Stopped after step {line['stopped']}, which is kept: go on with "
                "--resume."
            )
        elif "valid_loss" in line:
            print(
                f"Iter {line['step']}: Val loss {line['valid_loss']:.3f} (text "
                f"{line['valid_text_loss']:.3f}, audio {line['valid_audio_loss']:.3f})"
            )
            self._since = time.perf_counter()  # time of training only
        else:
            self._step(line)

    def _step(self, line: "Line") -> None:
        self._losses.append(line["loss"])
        step, every = line["step"], self._settings.steps_per_report
        if step % every and step != self._settings.iters:
            return
        took = time.perf_counter() - self._since
        count = len(self._losses)
        tokens = line["tokens"] - self._tokens if self._tokens else 0
        rate = tokens / took if tokens else line["tokens_per_second"]
        left = (self._settings.iters - step) * took / count
        print(
            f"Iter {step}: Train loss {sum(self._losses) / count:.3f}, Learning rate "
            f"{line['learning_rate']:.2e}, It/sec {count / took:.3f}, Tokens/sec "
            f"{rate:.0f}, Trained tokens {line['tokens']}, Peak mem "
            f"{line['peak_memory_gb']:.2f} GB, {clock(left)} left",
            flush=True,
        )
        self._losses.clear()
        self._tokens, self._since = line["tokens"], time.perf_counter()


def clock(seconds: float) -> str:
    """A time in a suitable unit."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
