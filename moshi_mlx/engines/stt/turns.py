"""When a speaker has finished: by a score with two thresholds, or by a long pause."""

WARM_UP = 12  # steps whose scores mean nothing yet
ENDED, SPEAKING = (
    0.6,
    0.4,
)  # a turn ends above the one, and can end again below the other
EPSILON_S = 1e-6
PAUSE_S = 2.0  # length of a pause that ends a turn, if the model has no scores


class TurnDetector:
    """One speaker's turns. A turn ends once, and only if something was said in it."""

    def __init__(self) -> None:
        self._steps = 0
        self._armed = True
        self._said = False
        self._said_s = 0.0
        self._ended_s = -1.0

    def restart(self) -> None:
        """The model restarts: its next scores mean nothing."""
        self._steps = 0

    def heard(self, time_s: float) -> None:
        """A piece of a word, said at ``time_s``; it may come after its turn's end."""
        self._said |= time_s > self._ended_s
        self._said_s = time_s

    def score(self, probability: float, time_s: float) -> bool:
        """Take the probability of a pause; true if a turn ends."""
        self._steps += 1
        if self._steps <= WARM_UP:
            return False
        if probability < SPEAKING:
            self._armed = True
        if probability > ENDED and self._armed and self._said:
            self._armed = False
            return self.end(time_s)
        return False

    def pause(self, time_s: float) -> bool:
        """Without scores: whether a long pause ends a turn."""
        paused = time_s - self._said_s > PAUSE_S - EPSILON_S
        return paused and self.end(time_s)

    def end(self, time_s: float) -> bool:
        """End the turn; false if nothing was said in it."""
        said, self._said = self._said, False
        if said:
            self._ended_s = time_s
        return said
