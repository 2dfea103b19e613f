"""Batches of streams: the windows of all recordings, in an order without end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import ConfigError
from ..models.config import LmConfig
from .codes import CodeLayout, CodeStore
from .examples import Batch, Conditions, Examples
from .order import Order
from .recordings import DataSource
from .words import NOTHING, Encode, SpokenWord, TextRules, frames_of, text_stream

Progress = Callable[[int, int], None]  # recordings done, of how many
Prompts = Callable[[Path, dict[str, Any]], np.ndarray]  # of a folder's recording


@dataclass(frozen=True)
class Shape:
    """What a model's streams are like.

    Attributes:
        layout: of the sound.
        text: how words become the text stream.
        text_card, audio_card: how many text tokens, and codes, the model knows.
        silence: seconds of it that the model hears before a recording, and after it.
    """

    layout: CodeLayout
    text: TextRules
    text_card: int = 2**31 - 1
    audio_card: int = 2**31 - 1
    silence: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, cfg: LmConfig, stt_config: dict[str, Any]) -> "Shape":
        """The streams of a model; one that only listens writes words down later, and
        hears silence before and after a recording as it does when it runs."""
        sides = 2 if cfg.generated_codebooks else 1
        delay = float(stt_config.get("audio_delay_seconds", 0.0)) if sides == 1 else 0.0
        padding, end = cfg.silent_text
        text = TextRules(padding, end, delay)
        own, other = cfg.generated_codebooks, cfg.other_codebooks
        if sides == 1:
            layout = CodeLayout(1, cfg.audio_codebooks)
        elif not other:  # it predicts the user's side as well
            layout = CodeLayout(2, own // 2)
        else:
            layout = CodeLayout(2, own, None if own == other else other)
        cards = cfg.text_out_vocab_size, cfg.audio_vocab_size - 1
        before = float(stt_config.get("audio_silence_prefix_seconds", 0.0))
        silence = (before, delay + 1.0) if sides == 1 else (0.0, 0.0)
        return cls(layout, text, *cards, silence)

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

    Args:
        prompts: of each recording, frames ``[1 + n_q, P]`` that come before each of its
            windows and are not learnt.
        conditions: collects what the recordings are told.
    """

    def __init__(
        self,
        source: DataSource,
        codes: CodeStore,
        encode: Encode,
        shape: Shape,
        progress: Progress | None = None,
        prompts: Prompts | None = None,
        conditions: Conditions | None = None,
    ):
        self.name, self.weight = source.name, source.weight
        self.frames = frames_of(codes.window)
        self._streams: list[np.ndarray] = []
        self._more: list[tuple[int, int]] = []  # start and conditions of each window
        for number, recording in enumerate(source.recordings):
            words, about = recording.words(), recording.about()
            told, prompt = 0, None
            if conditions is not None:
                where = str(recording.transcript)
                told = conditions.number(about["text_conditions"], where)
            if prompts is not None:
                prompt = prompts(recording.path.parent, about)
            for place, sound in enumerate(codes.of(recording)):
                first = place * codes.window - codes.silence[0]
                here = within(words, first, codes.window)
                text_row = text_stream(here, self.frames, encode, shape.text)
                shape.check(text_row, sound)
                streams = self._joined(text_row, sound)
                if prompt is not None:
                    streams = np.concatenate([prompt, streams], axis=1)
                self._streams.append(streams)
                self._more.append((0 if prompt is None else prompt.shape[1], told))
            if progress is not None:
                progress(number + 1, len(source.recordings))

    def __len__(self) -> int:
        return len(self._streams)

    def __getitem__(self, number: int) -> np.ndarray:
        return self._streams[number].astype(np.int32)

    def start(self, number: int) -> int:
        """The first frame of a window that is learnt."""
        return self._more[number][0]

    def told(self, number: int) -> int:
        """The number of a window's conditions."""
        return self._more[number][1]

    @property
    def longest(self) -> int:
        """Frames of the longest window with its prompt."""
        return max((s.shape[1] for s in self._streams), default=0)

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


def batch_of(
    windows: Sequence[Windows], places: Sequence[tuple[int, int] | None], plain: bool
) -> Batch:
    """Windows, by source and number, as one batch; None is an empty row.

    Args:
        plain: give the codes alone.
    """
    frames = max(w.longest for w in windows)
    rows, more = [], []
    for place in places:
        source, number = place or (0, 0)
        streams = windows[source][number]
        if place is None:
            streams = np.full_like(streams, NOTHING)
        rest = frames - streams.shape[1]
        rows.append(np.pad(streams, [(0, 0), (0, rest)], constant_values=NOTHING))
        more.append((windows[source].start(number), windows[source].told(number)))
    codes = mx.array(np.stack(rows))
    if plain:
        return codes
    start, told = (mx.array(column, mx.int32) for column in zip(*more, strict=True))
    return Examples(codes, start, told)


class Batches:
    """Batches ``[B, 1 + n_q, T]`` of one process, by the number of the micro-batch.

    Args:
        windows: of each source.
        plain: give the codes alone, not what windows begin with or are told.
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
        plain: bool = True,
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
        self._plain = plain

    def __getitem__(self, number: int) -> Batch:
        first = number * self._size + self._first
        places = [self._order[first + row] for row in range(self._own)]
        return batch_of(self._windows, places, self._plain)


def in_order(
    windows: Sequence[Windows],
    batch_size: int,
    rank: int = 0,
    ranks: int = 1,
    plain: bool = True,
) -> Iterator[Batch]:
    """All windows once, in their order: this process's rows of each batch.

    Rows that the last batch lacks are empty, so that every process has as many batches.
    """
    places = [(s, n) for s, found in enumerate(windows) for n in range(len(found))]
    own = batch_size // ranks
    for start in range(0, len(places), batch_size):
        batch: list[tuple[int, int] | None] = [*places[start : start + batch_size]]
        batch += [None] * (batch_size - len(batch))
        yield batch_of(windows, batch[rank * own : (rank + 1) * own], plain)
