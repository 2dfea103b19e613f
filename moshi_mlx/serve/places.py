"""How many live clients a machine can serve: their steps must fit into a frame.

All models compute on one thread. So in the worst case each takes a full step, one after
another, within the 80 ms of a frame.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from ..audio.framing import FRAME_MS

_log = logging.getLogger(__name__)
CONVERSES, LISTENS, SPEAKS = "conversations", "transcription", "speech"
TRANSLATES = "translation"
BUDGET_S = 0.8 * FRAME_MS / 1000  # for all steps: the rest is for everything else


class FrameTime:
    """The time of a frame, shared by the models of a server.

    A model that is loaded gets an equal share of the time that is left, as large as the
    shares of those that are still to be loaded.

    Args:
        names: of all models that may step.
    """

    def __init__(self, names: Iterable[str], budget_s: float = BUDGET_S):
        self._steps_s: dict[str, float | None] = dict.fromkeys(names)
        self._budget_s = budget_s

    @property
    def taken_s(self) -> float:
        """Seconds of a full step of all models that are loaded."""
        return sum(step_s or 0.0 for step_s in self._steps_s.values())

    def share_s(self, name: str) -> float:
        """Seconds that a full step of a model may take."""
        others = [s for other, s in self._steps_s.items() if other != name]
        left = self._budget_s - sum(step_s or 0.0 for step_s in others)
        return max(left, 0.0) / (1 + others.count(None))

    def take(self, name: str, step_s: float) -> None:
        """Note the time of a full step of a model."""
        self._steps_s[name] = step_s
        if self.taken_s > FRAME_MS / 1000:
            _log.warning(
                "a step of all models takes %.0f ms, a frame lasts %d: clients of "
                "several models at once will wait. Serve fewer or smaller models.",
                *(1000 * self.taken_s, FRAME_MS),
            )


class Warmable(Protocol):
    """A batch of live rows."""

    rows: int

    def warmup(self) -> float: ...
    def close(self) -> None: ...


B = TypeVar("B", bound=Warmable)


def fitting(make: Callable[[int], B], most: int, name: str, time: FrameTime) -> B:
    """The largest batch, of at most ``most`` rows, whose full step fits its share.

    A batch of one row is kept even if it does not fit.
    """
    rows, share_s = max(most, 1), time.share_s(name)
    while True:
        batch = make(rows)
        step_s = batch.warmup()
        if step_s <= share_s or rows == 1:
            break
        batch.close()
        rows = max(1, min(rows - 1, int(rows * share_s / step_s)))
    _log.info("%s: %d places, a full step takes %.0f ms", name, rows, 1000 * step_s)
    time.take(name, step_s)
    return batch
