"""Speech while the text is still arriving."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ...audio.samples import Pcm
from ...audio.save import write_sound
from ...documents.word_files import words_as_srt, words_as_vtt
from ...documents.words import Word
from ...errors import ConfigError
from ...models.snapshot import Fits, Snapshot, fingerprint, kept
from ..keeping import Keeping, remember, remembered
from ..owner import Owner
from .machine import Entry, State
from .model import SpeechModel
from .run import SpeechRun
from .wording import Wording

Voice = str | Path
REMEMBERED = ("_frames",)


@dataclass(frozen=True, repr=False)
class Audio:
    """Speech: float32 ``pcm [S]`` in -1..1, and its words."""

    pcm: Pcm
    words: list[Word]
    sample_rate: int

    def __repr__(self) -> str:
        return f"<Audio of {self.duration_s:.2f} s, {len(self.words)} words>"

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.pcm) / self.sample_rate

    def save(self, path: str | Path) -> None:
        """Write the sound as .wav, .mp3, .opus, .flac or .aac, by the name's ending.

        Raises: AudioError for a name with another ending, or if the file cannot be
            written.
        """
        write_sound(path, self.pcm, self.sample_rate)

    def to_srt(self) -> str:
        """Subtitles in SubRip's format."""
        return words_as_srt(self.words)

    def to_vtt(self) -> str:
        """Subtitles in WebVTT's format."""
        return words_as_vtt(self.words)


class SpeechSession(Keeping):
    """One speech; the result does not depend on how its text is cut into pieces.

    The model reads ``second_stream_ahead`` words ahead, so a word is spoken once that
    many more words have arrived, or after ``finish``. If text is missing, the session
    waits instead of making the model pause, and the sound continues without a gap.

    Its methods may be called from any thread, one at a time.

    Args:
        tts: the model and its settings.
        voices: one per speaker, the main speaker's first; for models that continue a
            recording, that recording.
        guidance: how closely to follow voice and text, 1 to 4.
        padding_between: see ``ScriptReader``.
        seed: of its random numbers.
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
        self._wording = Wording(tts, padding_between)
        self.codec_state = tts.mimi.make_state()
        self._frames = 0  # that the model has said, including the recording's

    def __repr__(self) -> str:
        state = "closed" if self.closed else "finished" if self.finished else "open"
        return f"<SpeechSession of {self.tts.name}: {state}, {len(self.words)} words>"

    @property
    def steps_to_sound(self) -> int:
        """Model steps before the first frame of new speech."""
        return self.tts.delay_steps + self.run.gen.max_delay + self._prefix_steps

    @property
    def has_words(self) -> bool:
        """Whether any word has been read."""
        return bool(self._state.transcript)

    @property
    def words(self) -> list[Word]:
        """The words read so far; the last one ends where the next will start."""
        if self.closed:
            return self._said
        words = self._wording.words(self._state, self.run.offset, self._prefix_steps)
        return list(words)

    @property
    def finished(self) -> bool:
        """Whether no more text will come."""
        return self._wording.finished

    def feed(self, text: str) -> Iterator[Pcm]:
        """Add text; yields the frames ``[1920]`` that can be spoken now.

        A word ends at white space, and a piece may end within a word. Frames are
        computed as you iterate; those that you leave come with the next call.
        Characters that the model has no tokens for are left out, and a warning names
        them.

        Raises: ConfigError for an unknown tag, and for half a surrogate pair.
        """
        self._feed("feed", text)
        return self._speak()

    def turn(self, index: int) -> Iterator[Pcm]:
        """Start turn ``index``; odd turns are the second speaker's."""
        self._turn("turn", index)
        return self._speak()

    def finish(self) -> Iterator[Pcm]:
        """End the text; yields the remaining frames."""
        self._finish("finish")
        return self._speak()

    def afeed(self, text: str) -> AsyncIterator[Pcm]:
        """Like ``feed``, for ``async for``."""
        self._feed("afeed", text)
        return self._aspeak()

    def aturn(self, index: int) -> AsyncIterator[Pcm]:
        """Like ``turn``, for ``async for``."""
        self._turn("aturn", index)
        return self._aspeak()

    def afinish(self) -> AsyncIterator[Pcm]:
        """Like ``finish``, for ``async for``."""
        self._finish("afinish")
        return self._aspeak()

    @property
    def _fits(self) -> Fits:
        return {**self.run.gen.fits, "codec": fingerprint(self.tts.mimi)}

    def _keep(self) -> Snapshot:
        state = {
            **remembered(self, REMEMBERED),
            "run": self.run.state,
            "wording": self._wording.state,
            "codec": self.codec_state.state,
        }
        return Snapshot("speech", self._fits, kept(state))

    def _go_on(self, snapshot: Snapshot) -> None:
        snapshot.check("speech", self._fits)
        state = kept(snapshot.state)
        self.run.state = state["run"]
        self._wording.state = state["wording"]
        self.codec_state.state = state["codec"]
        remember(self, {name: state[name] for name in REMEMBERED})

    def _feed(self, called: str, text: str) -> None:
        self._check_more(called)
        self._take(self._wording.feed(text))

    def _turn(self, called: str, index: int) -> None:
        self._check_more(called)
        self._take(self._wording.turn(index))

    def _finish(self, called: str) -> None:
        self._check_more(called)
        self._take(self._wording.finish())

    @property
    def _state(self) -> State:
        return self.run.states[0]

    def _check_more(self, called: str) -> None:
        self._check_open(called)
        if self.finished:
            raise ConfigError(
                f"{called}: this speech is finished: start a new session."
            )

    def _take(self, entries: Sequence[Entry]) -> None:
        self._state.entries.extend(entries)

    def _may_step(self) -> bool:
        """Whether the step would be the same if all the text were here."""
        if self.finished:
            return not self.run.done
        return self.run.in_prefix or self._wording.may_step(self._state)

    def _speak(self) -> Iterator[Pcm]:
        while (frame := self.tts.owner.run(self._next_frame)) is not None:
            yield frame

    async def _aspeak(self) -> AsyncIterator[Pcm]:
        while (frame := await self.tts.owner.arun(self._next_frame)) is not None:
            yield frame

    def _next_frame(self) -> Pcm | None:
        """Step until there is sound; None if more text is needed, or at the end."""
        while not self.closed and self._may_step():
            if self.run.in_prefix:  # the recording's own sound is not repeated
                codes = self.run.read_prefix()
                if codes is not None:
                    mx.eval(self.tts.mimi.decode_step(codes, self.codec_state))
                    self._frames += codes.shape[2]
                continue
            codes = self.run.step()
            if codes is None:
                continue
            pcm = self.tts.mimi.decode_step(codes[:, :, None], self.codec_state)
            self._frames += 1
            sound = np.array(mx.clip(pcm[0, 0].astype(mx.float32), -1, 1))
            if self._frames > self._prefix_steps:
                return sound
        return None

    def _computed_by(self) -> Owner:
        return self.tts.owner

    def _drop(self) -> None:
        self._said = self.words
        del self.run, self.codec_state
