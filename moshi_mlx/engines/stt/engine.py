"""STTModel: sound in, words with times out; from files, or while it is spoken."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...audio.long import LongSound, open_sound
from ...documents.words import Word
from ...errors import AudioError, ConfigError
from ...models.lm import Lm
from ...models.mimi import Mimi, MimiState
from ...utils.text import Tokenizer
from .events import EndOfTurn, Event
from .files import encoded
from .prompt import check_length
from .rows import FRAME_S, LATE_S, Frame, Rows
from .session import Pcm, STTSession
from .transcript import Transcript

PAUSE_LENGTHS_S = (0.5, 1.0, 2.0, 3.0)  # of the extra heads of Kyutai's models
Sound = str | Path | Pcm | LongSound
Codes = NDArray[np.int32]


@dataclass(frozen=True)
class Listening:
    """How a model listens; ``STTModel.listening`` makes it.

    Attributes:
        refresh: listen afresh at pauses, so that it can go on for hours.
        phrases: names and words to expect.
        prompt: text that is said first, as it is to be written.
        before: what is heard before the sound, float32 ``[S]``: silence, and the
            prompt's recording where there is one.
        lead: its codes ``[K]``, frame by frame.
        aside: whether there is a recording, which is not told.
    """

    refresh: bool
    phrases: tuple[str, ...]
    prompt: str
    before: Pcm
    lead: list[Codes]
    aside: bool


class STTModel:
    """A listening model: language model, codec, tokenizer, and how it was trained.

    Args:
        raw_config: the checkpoint's config.json: ``stt_config``.

    Raises: ConfigError where the config is not that of a listening model.
    """

    def __init__(
        self, lm: Lm, mimi: Mimi, tokenizer: Tokenizer, raw_config: Mapping[str, Any]
    ):
        stt_config = raw_config.get("stt_config")
        if stt_config is None or lm.dep_q:
            raise ConfigError(
                "config.json is not that of a speech-to-text model: it has no "
                "stt_config, or the model speaks."
            )
        self.lm = lm
        self.mimi = mimi
        self.tokenizer = tokenizer
        self.delay_s = float(stt_config.get("audio_delay_seconds", 0.0))
        self.prefix_s = float(stt_config.get("audio_silence_prefix_seconds", 0.0))

    @property
    def sample_rate(self) -> int:
        """Hz of the sound that sessions take."""
        return int(self.mimi.sample_rate)

    @property
    def pause_lengths_s(self) -> tuple[float, ...]:
        """What each probability of a ``Pauses`` event stands for; empty without."""
        return PAUSE_LENGTHS_S[: len(self.lm.extra_heads)]

    @property
    def silence_before(self) -> Pcm:
        """What the model wants to hear first."""
        return np.zeros(int(self.prefix_s * self.sample_rate), np.float32)

    @property
    def flush_frames(self) -> int:
        """Frames of silence after which the last word is out."""
        return ceil((self.delay_s + LATE_S) / FRAME_S)

    def listening(
        self,
        *,
        refresh: bool = True,
        phrases: Sequence[str] = (),
        prompt: str = "",
        prompt_sound: Sound | None = None,
    ) -> Listening:
        """Options of ``session`` and ``transcribe``.

        Args:
            refresh: listen afresh at pauses; false keeps one state for ever.
            phrases: names and words to expect.
            prompt: text with which the sound begins, written as the rest should be; or
                that of ``prompt_sound``.
            prompt_sound: a recording to be heard before the sound (again, whenever the
                model listens afresh); its words are not told.

        Raises: ConfigError for a recording without its text, or one that is too long.
        """
        if prompt_sound is not None and not prompt.strip():
            raise ConfigError(
                "a prompt's recording was given without its text: say as prompt what "
                "is said in it."
            )
        before = self.silence_before
        if prompt_sound is not None:
            before = np.concatenate([before, self._samples(prompt_sound)[:]])
        lead = self._codes(before)
        if prompt_sound is not None:
            check_length(lead, self.lm.cfg.transformer.context, FRAME_S)
        aside = prompt_sound is not None
        return Listening(refresh, tuple(phrases), prompt, before, lead, aside)

    def session(self, **options: Any) -> STTSession:
        """Listen to something that is being said, see ``STTSession``.

        Args:
            options: those of ``listening``.
        """
        return STTSession(self, self.listening(**options))

    def transcribe(
        self,
        sound: Sound,
        *,
        on_event: Callable[[Event], None] | None = None,
        **options: Any,
    ) -> Transcript:
        """The words of a sound file, or of float32 ``[S]`` at ``sample_rate``.

        Args:
            on_event: is told everything as it is noticed.
            options: those of ``listening``.

        Raises: AudioError for what is no sound.
        """

        def tell(_row: int, event: Event) -> None:
            if on_event is not None:
                on_event(event)

        return self.transcribe_all([sound], on_event=tell, **options)[0]

    def transcribe_all(
        self,
        sounds: Sequence[Sound],
        *,
        on_event: Callable[[int, Event], None] | None = None,
        on_progress: Callable[[float], None] | None = None,
        **options: Any,
    ) -> list[Transcript]:
        """Several sounds at once, of any lengths; each gets what it would alone.

        Args:
            on_event: is told each sound's number and event.
            on_progress: is told seconds of sound that were worked through.
            options: those of ``listening``.
        """
        listening = self.listening(**options)
        pcm = [self._samples(sound) for sound in sounds]
        if not pcm:
            return []
        rows = self.rows(len(pcm), listening)
        found: list[list[Event]] = [[] for _ in pcm]
        for row, event in _listen(
            rows, encoded(self, pcm, listening.before), on_progress
        ):
            if isinstance(event, Word | EndOfTurn):
                found[row].append(event)
            if on_event is not None:
                on_event(row, event)
        return [
            Transcript.of(events, len(samples) / self.sample_rate)
            for events, samples in zip(found, pcm, strict=True)
        ]

    def rows(self, count: int, listening: Listening) -> Rows:
        """Fresh state for ``count`` sounds."""
        return Rows(
            self.lm,
            self.tokenizer,
            self.delay_s,
            count,
            listening.refresh,
            listening.phrases,
            listening.lead,
            listening.prompt,
            listening.aside,
        )

    def encode(self, pcm: Pcm, state: MimiState) -> NDArray[np.int32]:
        """The model's codes ``[B, K, T]`` of the next frames ``pcm [B, 1, S]``."""
        codes = self.mimi.encode_step(mx.array(pcm), state)
        return np.array(codes[:, : self.lm.n_q]).astype(np.int32)

    def _codes(self, pcm: Pcm) -> list[Codes]:
        """Codes of ``pcm [S]``, as far as it fills frames."""
        size = self.mimi.frame_size
        whole = len(pcm) // size * size
        if not whole:
            return []
        codes = self.encode(pcm[None, None, :whole], self.mimi.make_state())
        return list(codes[0].T)

    def _samples(self, sound: Sound) -> Pcm | LongSound:
        if isinstance(sound, LongSound):
            return sound
        if not isinstance(sound, np.ndarray):
            return open_sound(sound, self.sample_rate)
        if sound.ndim != 1 or not np.issubdtype(sound.dtype, np.floating):
            raise AudioError(
                f"transcribe got an array {list(sound.shape)} of {sound.dtype}: give "
                f"float32 [samples] at {self.sample_rate} Hz."
            )
        return sound.astype(np.float32, copy=False)


def _listen(
    rows: Rows,
    sounds: Iterator[list[list[Frame]]],
    on_progress: Callable[[float], None] | None,
) -> Iterator[tuple[int, Event]]:
    """Everything that is noticed, with the sound's number."""
    for frames in sounds:
        for row, new in zip(rows.rows, frames, strict=True):
            row.waiting.extend(new)
        while rows.waiting:
            for b, events in enumerate(rows.step()):
                yield from ((b, event) for event in events)
        if on_progress is not None:
            on_progress(sum(f.end_s - f.start_s for new in frames for f in new))
    for b in range(len(rows.rows)):
        yield from ((b, event) for event in rows.finish(b))
