"""Names that a recogniser should expect: their tokens become more likely in context."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from ...errors import ConfigError
from ...utils.text import Tokenizer
from .reader import BOUNDARY, PAD

BONUS = 4.0  # added to a logit: makes a token some 50 times likelier


class WordBias:
    """Biases a word's first token at the start of a word, and then its next tokens.

    Args:
        phrases: names and words to expect; phrases are split into words.
        rows: number of sounds.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        phrases: Sequence[str],
        rows: int,
        bonus: float = BONUS,
    ):
        self._bonus = bonus
        self._next: dict[tuple[int, ...], set[int]] = {}
        for word in {word for phrase in phrases for word in phrase.split()}:
            tokens = tokenizer.encode(word)
            if any(token <= PAD for token in tokens):
                raise ConfigError(
                    f"the model cannot write {word!r}: leave it out of the names to "
                    "expect."
                )
            for i, token in enumerate(tokens):
                self._next.setdefault(tuple(tokens[:i]), set()).add(token)
        self._words: list[tuple[int, ...] | None] = [None] * rows

    @property
    def state(self) -> list[list[int] | None]:
        """Tokens of the word that each row is in; None between matching words."""
        return [None if word is None else list(word) for word in self._words]

    @state.setter
    def state(self, state: Sequence[Sequence[int] | None]) -> None:
        self._words = [None if word is None else tuple(word) for word in state]

    def heard(self, row: int, token: int) -> None:
        """Take the token that a row's step chose."""
        word = self._words[row]
        if token == BOUNDARY:
            self._words[row] = ()
        elif token <= PAD or word is None:
            self._words[row] = None
        else:
            self._words[row] = (*word, token)

    def add_to(self, logits: mx.array) -> None:
        """Change ``logits [B, 1, V]`` in place."""
        bonus = np.zeros(logits.shape, np.float32)
        for row, word in enumerate(self._words):
            likely = self._next.get(word, ()) if word is not None else ()
            bonus[row, 0, list(likely)] = self._bonus
        if bonus.any():
            logits[:] = logits + mx.array(bonus)
