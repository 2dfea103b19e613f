"""Speech while the text is still coming: words in, frames of sound out."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...documents.words import Word
from ...errors import ConfigError
from .machine import Entry, State
from .model import SpeechModel
from .run import SpeechRun
from .script import ScriptReader, without_unknown

logger = logging.getLogger(__name__)
Pcm = NDArray[np.float32]
Voice = str | Path


@dataclass(frozen=True)
class Audio:
    """Speech: float32 ``pcm [S]`` in -1..1, and its words."""

    pcm: Pcm
    words: list[Word]
    sample_rate: int


class SpeechSession:
    """One speech. What it says does not depend on how its text is cut into pieces.

    The model reads ``second_stream_ahead`` words ahead, so a word is said when that
    many more have come, or after ``finish``. When text is missing the session waits
    instead of making the model pause: the sound goes on where it stopped.

    Args:
        tts: the model and its settings.
        voices: of the speakers, the main one's first; a recording, for models that
            continue one.
        guidance: how closely to follow voice and text, 1 to 4.
        padding_between: see ``ScriptReader``.
        seed: of the randomness.
    """

    def __init__(
        self,
        tts: SpeechModel,
        voices: Sequence[Voice],
        guidance: float = 2.0,
        padding_between: int = 1,
        seed: int | None = None,
    ):
        self.tts = tts
        self.finished = False
        learnt = bool(tts.valid_cfg_conditionings)
        paths = [tts.get_voice_path(str(voice)) for voice in voices]
        self._prefix_steps, prefixes = 0, None
        if not tts.multi_speaker:
            if len(paths) != 1:
                raise ConfigError(
                    f"{len(paths)} voices were given: this model continues exactly one "
                    "recording, give one sound file."
                )
            prefixes = [tts.get_prefix(paths[0])]
            self._prefix_steps, paths = prefixes[0].shape[-1], []
        attributes = tts.make_condition_attributes(paths, guidance if learnt else None)
        self.run = SpeechRun(
            tts,
            [[]],
            [attributes] if attributes.text or attributes.tensor else [],
            prefixes,
            cfg_is_no_prefix=not learnt,
            cfg_is_no_text=not learnt,
            cfg_coef=1.0 if learnt else guidance,
            seed=seed,
            keep_log=False,
        )
        self._reader = ScriptReader(
            tts.tokenizer,
            tts.machine.token_ids,
            tts.mimi.frame_rate,
            tts.multi_speaker,
            padding_between,
        )
        self.codec_state = tts.mimi.make_state()
        self._frames = 0  # that the model has said, the recording's included

    @property
    def steps_to_sound(self) -> int:
        """Steps of the model before the first frame of new speech."""
        return self.tts.delay_steps + self.run.gen.max_delay + self._prefix_steps

    @property
    def has_words(self) -> bool:
        """Whether a word has been taken."""
        return bool(self._state.transcript)

    @property
    def words(self) -> list[Word]:
        """The words taken so far; the last one ends where the next will start."""
        state, rate = self._state, self.tts.mimi.frame_rate
        last = self.run.offset if state.end_step is None else state.end_step
        times = [*state.consumption_times, last]
        ends = dict(pairwise(times))

        def second(step: int) -> float:
            return round((step - self._prefix_steps) / rate, 3)

        return [
            Word(text, second(step), second(ends[step]))
            for text, step in state.transcript
        ]

    def feed(self, text: str) -> Iterator[Pcm]:
        """Take more text; returns the frames ``[1920]`` that can be said now.

        A word ends at white space: a piece may end within one. The frames are made as
        they are asked for, those left over come with the next call's. Characters that
        the model has no tokens for are left out, with a warning that names them.
        """
        self._check_open()
        text, unknown = without_unknown(self.tts.tokenizer, text)
        if unknown:
            logger.warning("the model cannot say %s: left out", " ".join(unknown))
        self._take(self._reader.feed(text))
        return self._speak()

    def turn(self, index: int) -> Iterator[Pcm]:
        """Begin turn ``index``; odd ones are the other speaker's."""
        self._check_open()
        self._take(self._reader.turn(index))
        return self._speak()

    def finish(self) -> Iterator[Pcm]:
        """No more text will come; returns the frames of the rest."""
        self._check_open()
        self._take(self._reader.flush())
        self.finished = True
        return self._speak()

    @property
    def _state(self) -> State:
        return self.run.states[0]

    def _check_open(self) -> None:
        if self.finished:
            raise ConfigError("this speech is finished: begin a new session.")

    def _take(self, entries: Sequence[Entry]) -> None:
        self._state.entries.extend(entries)

    def _may_step(self) -> bool:
        """Whether the step would be the same if all the text were here."""
        if self.finished:
            return not self.run.done
        state = self._state
        if self.run.in_prefix or state.queued or state.forced_padding:
            return True  # no entry can be taken now
        if not state.entries:
            return False
        if not state.entries[0].tokens:
            return True
        ahead = self.tts.machine.second_stream_ahead
        return not ahead or bool(state.get_tokens_ahead(ahead + 1))

    def _speak(self) -> Iterator[Pcm]:
        while self._may_step():
            codes = self.run.step()
            if codes is None:
                continue
            pcm = self.tts.mimi.decode_step(codes[:, :, None], self.codec_state)
            self._frames += 1
            sound = np.array(mx.clip(pcm[0, 0].astype(mx.float32), -1, 1))
            if self._frames > self._prefix_steps:
                yield sound
