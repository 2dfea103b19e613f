"""The voice of a live speech, and its output."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from ...audio.samples import Pcm
from ...documents.words import Word
from ...errors import MoshiError
from ...modules.conditioner import ConditionAttributes


@dataclass(frozen=True)
class LiveVoice:
    """A voice, ready for use.

    Attributes:
        attributes: conditions, for models whose voices are embeddings.
        prefix: codes ``[1 + n_q, P]`` of a recording, for models that continue one.
        key: identifies its source, so that it is prepared only once.
    """

    attributes: ConditionAttributes
    prefix: mx.array | None = None
    key: str = ""

    @property
    def steps(self) -> int:
        """Frames of its recording."""
        return 0 if self.prefix is None else self.prefix.shape[-1]

    @property
    def frames(self) -> int:
        """Frames of its conditions."""
        return sum(c.tensor.shape[1] for c in self.attributes.tensor.values())


@dataclass(frozen=True)
class Spoken:
    """A row's output in a step.

    Attributes:
        pcm: float32 ``[1920]``; None if the step made no sound.
        words: words that have ended, with their times in the sound.
        more: whether the row can go on without more text.
        ended: whether everything has been said.
        error: what is wrong with its text; the speech ends with it.
    """

    pcm: Pcm | None = None
    words: Sequence[Word] = ()
    more: bool = False
    ended: bool = False
    error: MoshiError | None = None
