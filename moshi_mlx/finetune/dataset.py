"""Batches of streams: the windows of all recordings, in an order without end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import ConfigError
from ..models.config import LmConfig
from .codes import CodeLayout, CodeStore
from .order import Order
from .recordings import DataSource
from .words import NOTHING, Encode, SpokenWord, TextRules, frames_of, text_stream

Progress = Callable[[int, int], None]  # recordings done, of how many


@dataclass(frozen=True)
class Shape:
    """What a model's streams are like.

    Attributes:
        layout: of the sound.
        text: how words become the text stream.
        text_card, audio_card: how many text tokens, and codes, the model knows.
    """

    layout: CodeLayout
    text: TextRules
    text_card: int = 2**31 - 1
    audio_card: int = 2**31 - 1

    @classmethod
    def of(cls, cfg: LmConfig, stt_config: dict[str, Any]) -> "Shape":
        """The streams of a model; one that only listens writes words down later."""
        sides = 2 if cfg.generated_codebooks else 1
        delay = float(stt_config.get("audio_delay_seconds", 0.0)) if sides == 1 else 0.0
        padding, end = cfg.silent_text
        text = TextRules(padding, end, delay)
        layout = CodeLayout(sides, cfg.audio_codebooks // sides)
        cards = cfg.text_out_vocab_size, cfg.audio_vocab_size - 1
        return cls(layout, text, *cards)

    def check(self, text: np.ndarray, sound: np.ndarray) -> None:
        """Raise a ConfigError for tokens or codes that the model does not know."""
        for what, found, card in (
            ("tokenizer gives the token", text, self.text_card),
            ("codec gives the code", sound, self.audio_card),
        ):
            if found.size and found.max() >= card:
                raise ConfigError(
                    f"the {what} {found.max()} and the model knows {card}: give the "
                    "files that belong to it."
                )


class Windows:
    """The windows of one source, each as streams ``[1 + n_q, T]``.

    Sound that a window lacks at its end is -1, which is not learnt; its text is
    padding, as in moshi-finetune.
    """

    def __init__(
        self,
        source: DataSource,
        codes: CodeStore,
        encode: Encode,
        shape: Shape,
        progress: Progress | None = None,
    ):
        self.name, self.weight = source.name, source.weight
        self.frames = frames_of(codes.window)
        self._streams: list[np.ndarray] = []
        for number, recording in enumerate(source.recordings):
            words = recording.words()
            for place, sound in enumerate(codes.of(recording)):
                here = within(words, place * codes.window, codes.window)
                text_row = text_stream(here, self.frames, encode, shape.text)
                shape.check(text_row, sound)
                self._streams.append(self._joined(text_row, sound))
            if progress is not None:
                progress(number + 1, len(source.recordings))

    def __len__(self) -> int:
        return len(self._streams)

    def __getitem__(self, number: int) -> np.ndarray:
        return self._streams[number].astype(np.int32)

    def _joined(self, text: np.ndarray, sound: np.ndarray) -> np.ndarray:
        streams = np.full((1 + len(sound), self.frames), NOTHING, np.int32)
        streams[0] = text
        frames = min(self.frames, sound.shape[1])
        streams[1:, :frames] = sound[:, :frames]
        return streams


def within(
    words: Sequence[SpokenWord] | None, start: float, length: float
) -> list[SpokenWord] | None:
    """The words that begin in a window, their times counted from its start."""
    if words is None:
        return None
    return [
        SpokenWord(word.text, word.start - start, word.end - start, word.speaker)
        for word in words
        if start <= word.start < start + length
    ]


class Batches:
    """Batches ``[B, 1 + n_q, T]`` of one process, by the number of the micro-batch.

    Args:
        windows: of each source.
        batch_size: of all processes together.
        rank, ranks: this process, and how many share each batch.

    Raises: ConfigError for a batch that the processes cannot share.
    """

    def __init__(
        self,
        windows: Sequence[Windows],
        batch_size: int,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
    ):
        if batch_size % ranks:
            raise ConfigError(
                f"a batch of {batch_size} cannot be shared by {ranks} processes: give "
                f"--batch-size a multiple of {ranks}."
            )
        self._windows = windows
        self._order = Order(
            [len(w) for w in windows], [w.weight for w in windows], seed
        )
        self._size, self._own = batch_size, batch_size // ranks
        self._first = rank * self._own

    def __getitem__(self, number: int) -> mx.array:
        first = number * self._size + self._first
        places = (self._order[first + row] for row in range(self._own))
        return mx.array(np.stack([self._windows[s][w] for s, w in places]))


def in_order(
    windows: Sequence[Windows], batch_size: int, rank: int = 0, ranks: int = 1
) -> Iterator[mx.array]:
    """All windows once, in their order: this process's rows of each batch.

    Rows that the last batch lacks are empty, so that every process has as many batches.
    """
    rows = [streams[n] for streams in windows for n in range(len(streams))]
    own = batch_size // ranks
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        batch += [np.full_like(rows[0], NOTHING)] * (batch_size - len(batch))
        yield mx.array(np.stack(batch[rank * own : (rank + 1) * own]))
