"""Recordings as windows of streams: what a model reads, and what it should say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..models.config import LmConfig
from ..models.prompt import Frames
from .codes import CodeLayout, CodeStore
from .examples import Conditions
from .recordings import DataSource
from .words import NOTHING, Encode, SpokenWord, TextRules, frames_of, text_stream

Progress = Callable[[int, int], None]  # recordings done, of how many
Prompts = Callable[[Path, dict[str, Any]], Frames]  # of a folder's recording


@dataclass(frozen=True)
class Shape:
    """The properties of a model's streams.

    Attributes:
        layout: of the sound.
        text: how words become the text stream.
        text_card, audio_card: number of text tokens, and of codes, in the model.
        silence: seconds of silence that the model hears before and after a recording.
    """

    layout: CodeLayout
    text: TextRules
    text_card: int = 2**31 - 1
    audio_card: int = 2**31 - 1
    silence: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, cfg: LmConfig, stt_config: dict[str, Any]) -> "Shape":
        """The streams of a model. One that only listens writes words later, and hears
        silence before and after a recording as it does when it runs."""
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
        """Raise a ConfigError for tokens or codes that the model does not have."""
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

    Args:
        source: gives their name, and how often they are drawn.
        seconds: length of each window.
    """

    def __init__(self, source: DataSource, seconds: float):
        self.name, self.weight = source.name, source.weight
        self.frames = frames_of(seconds)
        self._streams: list[np.ndarray] = []
        self._prompts: list[Frames | None] = []
        self._told: list[int] = []

    def add(
        self, streams: np.ndarray, prompt: Frames | None = None, told: int = 0
    ) -> None:
        """One more window.

        Args:
            streams: ``[1 + n_q, up to frames]``.
            prompt: what comes before it and is not learnt. Its first frame is never
                heard, so it is left out.
            told: the number of its conditions.
        """
        if prompt is not None:
            streams = np.concatenate([prompt.tokens[:, 1:], streams], axis=1)
        self._streams.append(streams)
        self._prompts.append(prompt)
        self._told.append(told)

    def __len__(self) -> int:
        return len(self._streams)

    def __getitem__(self, number: int) -> np.ndarray:
        return self._streams[number].astype(np.int32)

    def prompt(self, number: int) -> Frames | None:
        """The prompt of a window."""
        return self._prompts[number]

    def start(self, number: int) -> int:
        """The first learnt frame of a window."""
        prompt = self._prompts[number]
        return 0 if prompt is None else len(prompt) - 1

    def told(self, number: int) -> int:
        """The number of a window's conditions."""
        return self._told[number]

    @property
    def longest(self) -> int:
        """Frames of the longest window, including its prompt."""
        return max((s.shape[1] for s in self._streams), default=0)


def recorded(
    source: DataSource,
    codes: CodeStore,
    encode: Encode,
    shape: Shape,
    progress: Progress | None = None,
    prompts: Prompts | None = None,
    conditions: Conditions | None = None,
) -> Windows:
    """The windows of recordings with their words.

    If sound is missing at the end of a window, it is -1, which is not learnt; the text
    there is padding, as in moshi-finetune.

    Args:
        prompts: for each recording, what comes before each of its windows.
        conditions: collects the conditions of the recordings.
    """
    found = Windows(source, codes.window)
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
            text = text_stream(here, found.frames, encode, shape.text)
            shape.check(text, sound)
            streams = np.full((1 + len(sound), found.frames), NOTHING, np.int32)
            streams[0] = text
            frames = min(found.frames, sound.shape[1])
            streams[1:, :frames] = sound[:, :frames]
            found.add(streams, prompt, told)
        if progress is not None:
            progress(number + 1, len(source.recordings))
    return found


def within(
    words: Sequence[SpokenWord] | None, start: float, length: float
) -> list[SpokenWord] | None:
    """The words that start in a window, with times relative to its start."""
    if words is None:
        return None
    return [
        SpokenWord(word.text, word.start - start, word.end - start, word.speaker)
        for word in words
        if start <= word.start < start + length
    ]
