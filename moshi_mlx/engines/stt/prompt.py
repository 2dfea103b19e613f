"""A text that is known beforehand, to set a recogniser's spelling and style.

Until a row has written it, it can only write its next token or padding; the model
decides when. Source: kyutai-labs/delayed-streams-modeling,
scripts/transcribe_from_file_via_pytorch_with_prompt.py.
"""

from collections import deque
from collections.abc import Mapping, Sequence

import mlx.core as mx
import numpy as np

from ...errors import ConfigError
from ...utils.text import Tokenizer
from .reader import BOUNDARY, PAD


class Prompts:
    """The text that each row still has to write.

    Args:
        text: what is said first.
        rows: number of sounds.
        before: frames of a recording of the text, given before the sound itself; 0 if
            the sound starts with the text.
        patience: frames within which a recording's text must be written.

    Raises: ConfigError for a text that the model cannot write.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        text: str,
        rows: int,
        before: int = 0,
        patience: int = 0,
    ):
        self._tokens = tokenizer.encode(text)
        if any(token <= PAD for token in self._tokens):
            raise ConfigError(
                f"the model cannot write the prompt {text!r}: use letters and words of "
                "its languages."
            )
        self._before = before
        self._patience = patience
        self._left = [deque(self._tokens) for _ in range(rows)]
        self._steps = [0] * rows

    @property
    def state(self) -> dict[str, list]:
        """The rest of the prompt in each row, and the steps so far."""
        return {"left": [list(left) for left in self._left], "steps": list(self._steps)}

    @state.setter
    def state(self, state: Mapping[str, list]) -> None:
        self._left = [deque(left) for left in state["left"]]
        self._steps = list(state["steps"])

    def restrict(self, logits: mx.array) -> None:
        """Change ``logits [B, 1, V]`` in place."""
        if not any(self._left):
            return
        refused = np.zeros(logits.shape, bool)
        for row, (left, steps) in enumerate(zip(self._left, self._steps, strict=True)):
            if left:  # the first frame is given twice: its text is not a word yet
                free = [PAD, BOUNDARY, left[0]] if steps else [PAD]
                refused[row] = True
                refused[row, 0, free] = False
        logits[:] = mx.where(mx.array(refused), -mx.inf, logits)

    def wrote(self, row: int, token: int) -> int:
        """Read a step's token; returns the tokens to report.

        The text of a recording that was given before the sound is not reported.
        """
        left = self._left[row]
        aside = bool(self._before) and (bool(left) or self._steps[row] < self._before)
        self._steps[row] += 1
        if left and token == left[0]:
            left.popleft()
        if self._before and self._steps[row] >= self._patience:
            left.clear()
        return PAD if aside else token

    def begins(self, row: int) -> bool:
        """Whether the sound is still expected to start with the text."""
        return not self._before and bool(self._left[row])

    def give_up(self, row: int) -> None:
        """Let the row write what it hears."""
        self._left[row].clear()

    def restart(self, row: int) -> None:
        """Restart the row: a recording is given again, the start of a sound is not."""
        self._left[row] = deque(self._tokens if self._before else ())
        self._steps[row] = 0


def check_length(before: Sequence[object], window: int, frame_s: float) -> None:
    """Raises: ConfigError for a recording that leaves too little of the window.

    Args:
        before: frames of the recording.
        window: frames that the model remembers.
    """
    most = window // 4
    if len(before) > most:
        raise ConfigError(
            f"the prompt's recording is {len(before) * frame_s:.1f} s long: this model "
            f"takes {most * frame_s:.0f} s at most, cut it."
        )
