"""The model's first words: given to its text stream, at the pace of speech.

Moshi speaks the words in its text stream. A greeting is written there word by word,
with the gaps of spoken words, and the model makes the sound. It cannot be interrupted
before the last word.
"""

import math
from collections.abc import Iterator

from ...documents.transcript import has_no_spaces
from ...errors import ConfigError
from ...models.config import LmConfig
from ...utils.text import Tokenizer

FRAMES_PER_LETTER = 0.85  # 15 letters a second
FRAMES_PER_SIGN = 2.5  # of a script without spaces: 5 a second
MAX_LETTERS = 500  # a greeting of half a minute


def greeting_tokens(tokenizer: Tokenizer, cfg: LmConfig, text: str) -> list[int]:
    """Text tokens, one per frame: each word's, then padding for as long as it sounds,
    and the sign that another word begins. Empty for an empty text.

    Raises: ConfigError for a text that is too long.
    """
    if len(text) > MAX_LETTERS:
        raise ConfigError(
            f"the first words have {len(text)} characters: use up to {MAX_LETTERS}."
        )
    if not text.strip():
        return []
    said = [cfg.text_end_padding_token]
    for tokens, frames in _words(tokenizer, text):
        pause = max(math.ceil(frames) - len(tokens) - 1, 0)
        said += [*tokens, *[cfg.text_padding_token] * pause, cfg.text_end_padding_token]
    return said


def _words(tokenizer: Tokenizer, text: str) -> Iterator[tuple[list[int], float]]:
    """The tokens of each word, and for how many frames it sounds; where a script has
    no spaces, each piece is a word."""
    for word in text.split():
        tokens = list(tokenizer.encode(word))
        if not has_no_spaces(word):
            yield tokens, FRAMES_PER_LETTER * (len(word) + 1)
            continue
        for token in tokens:
            piece = "" if tokenizer.is_byte(token) else tokenizer.id_to_piece(token)
            yield [token], FRAMES_PER_SIGN * len(piece)
