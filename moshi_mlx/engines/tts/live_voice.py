"""The voice of a live speech, and what it says."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from ...audio.samples import Pcm
from ...documents.words import Word
from ...errors import MoshiError
from ...modules.conditioner import ConditionAttributes


@dataclass(frozen=True)
class LiveVoice:
    """A voice, ready to be used.

    Attributes:
        attributes: conditions, of models whose voices are embeddings.
        prefix: codes ``[1 + n_q, P]`` of a recording, of models that continue one.
        key: what it was made of, so that it need not be prepared again.
    """

    attributes: ConditionAttributes
    prefix: mx.array | None = None
    key: str = ""

    @property
    def steps(self) -> int:
        """Of its recording."""
        return 0 if self.prefix is None else self.prefix.shape[-1]

    @property
    def frames(self) -> int:
        """Of its conditions: rows of a batch have equally many."""
        return sum(c.tensor.shape[1] for c in self.attributes.tensor.values())


@dataclass(frozen=True)
class Spoken:
    """What a row said in a step.

    Attributes:
        pcm: float32 ``[1920]``; None where the step brought no sound.
        words: that have ended, with their times in the sound.
        more: whether the row can go on without more text.
        ended: whether everything has been said.
        error: what is wrong with its text; the speech ends with it.
    """

    pcm: Pcm | None = None
    words: Sequence[Word] = ()
    more: bool = False
    ended: bool = False
    error: MoshiError | None = None
