"""When the user starts and stops speaking."""

from collections.abc import Sequence

import numpy as np

from ....audio.samples import Pcm
from ....engines.stt.events import Pauses
from ....engines.stt.rows import is_loud
from ....engines.stt.turns import TurnDetector
from .messages import EventFields

# Seconds without words after which a turn may end, by the eagerness of semantic_vad.
_EAGER_S = {"high": 1.0, "medium": 2.0, "auto": 2.0, "low": 3.0}
_USUAL_SILENCE_MS = 500
_BEGINS_FRAMES = 3  # number of loud ones in a row
_FRAME_MS = 80


def silence_s(detection: EventFields | None) -> float:
    """The length of the pause that ends a turn."""
    detection = detection or {}
    if detection.get("type") == "semantic_vad":
        return _EAGER_S.get(str(detection.get("eagerness")), _EAGER_S["auto"])
    ms = detection.get("silence_duration_ms")
    return (_USUAL_SILENCE_MS if ms is None else float(ms)) / 1000


class WordTurns:
    """Turns by a listening model: from a word to a pause that the model finds.

    Args:
        lengths_s: lengths of the pauses that the model scores; the nearest one is used.
        wanted_s: length of the pause that ends a turn.
    """

    def __init__(self, lengths_s: Sequence[float], wanted_s: float):
        away = [abs(length - wanted_s) for length in lengths_s]
        self._head = away.index(min(away)) if away else None
        self._detector = TurnDetector()

    def word(self, time_s: float) -> None:
        """A piece of a word was said at ``time_s``."""
        self._detector.heard(time_s)

    def pauses(self, pauses: Pauses) -> bool:
        """Whether a turn ends."""
        if self._head is None:
            return False
        score = pauses.probabilities[self._head]
        return self._detector.score(score, pauses.time_s)


class LoudTurns:
    """Turns by loudness, without a listening model.

    Args:
        frame_size: samples of 80 ms.
        wanted_s: the silence that ends a turn.
    """

    def __init__(self, frame_size: int, wanted_s: float):
        self._size = frame_size
        self._most = max(1, round(1000 * wanted_s / _FRAME_MS))
        self._rest = np.zeros(0, np.float32)
        self._loud = self._quiet = 0
        self._speaking = False

    def restart(self) -> None:
        """Nobody speaks: the next loud frames start a turn."""
        self._speaking, self._loud = False, 0

    def push(self, pcm: Pcm) -> list[bool]:
        """Take samples ``[S]``; True for each turn that starts, False for an end."""
        pcm = np.concatenate([self._rest, pcm])
        whole = len(pcm) // self._size * self._size
        self._rest = pcm[whole:]
        changes = [self._frame(frame) for frame in pcm[:whole].reshape(-1, self._size)]
        return [change for change in changes if change is not None]

    def _frame(self, pcm: Pcm) -> bool | None:
        loud = is_loud(pcm)
        self._loud = self._loud + 1 if loud else 0
        self._quiet = 0 if loud else self._quiet + 1
        if not self._speaking and self._loud >= _BEGINS_FRAMES:
            self._speaking = True
            return True
        if self._speaking and self._quiet >= self._most:
            self._speaking = False
            return False
        return None
