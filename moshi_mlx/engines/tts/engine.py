"""TTSModel: speaks texts and scripts."""

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ...documents.transcript import LAYOUT, Layout
from ...errors import ConfigError
from ...modules.conditioner import ConditionAttributes
from .machine import Entry
from .model import DEFAULT_DSM_TTS_VOICE_REPO, DEFAULT_VOICE, SpeechModel
from .run import Hook, SpeechRun
from .script import without_unknown
from .script_file import Failure, Script
from .scripts import ScriptWriter, found_voices
from .session import Audio, Pcm, SpeechSession, Voice
from .texts import SpokenText, TextSource, speak_text

DEFAULT_DSM_TTS_REPO = "kyutai/tts-1.6b-en_fr"

__all__ = [
    "DEFAULT_DSM_TTS_REPO",
    "DEFAULT_DSM_TTS_VOICE_REPO",
    "DEFAULT_VOICE",
    "TTSModel",
    "TTSResult",
]


@dataclass
class TTSResult:
    """The result of a batch of speeches.

    Attributes:
        frames: codes ``[B, K, 1]``, delays undone, from the first frame of sound on:
            frame i belongs to text step i.
        logged_text_tokens: per row, (predicted, read) of each step.
        end_steps: per row, the step after the last word; None if the budget ended
            before the text.
        all_consumption_times: per row, the step at which each entry was taken.
        all_transcripts: per row, each word with its step.
    """

    frames: list[mx.array]
    logged_text_tokens: list[list[tuple[int, int]]]
    end_steps: list[int | None]
    all_consumption_times: list[list[int]]
    all_transcripts: list[list[tuple[str, int]]]


class TTSModel(SpeechModel):
    """A model that speaks; see ``SpeechModel`` for its arguments and settings.

    All methods may be called from any thread.
    """

    def __repr__(self) -> str:
        return f"<TTSModel {self.name}: {self.about}>"

    def generate(
        self,
        all_entries: Sequence[Sequence[Entry]],
        attributes: Sequence[ConditionAttributes],
        prefixes: list[mx.array] | None = None,
        cfg_is_no_prefix: bool = True,
        cfg_is_no_text: bool = True,
        on_audio_hook: Hook | None = None,
        on_text_hook: Hook | None = None,
        on_frame: Callable[[mx.array], None] | None = None,
        *,
        seed: int | Sequence[int] | None = None,
    ) -> TTSResult:
        """Speak a batch of scripts; each row's tokens are the same as for the row
        alone.

        Args:
            all_entries: per row, from ``prepare_script``.
            attributes: per row, from ``make_condition_attributes``; may be empty.
            on_frame: called with the codes ``[B, K, 1]`` of each frame.

        See ``SpeechRun`` for the rest.
        """
        run = self.owner.run(
            lambda: self._begin(
                all_entries,
                attributes,
                prefixes,
                cfg_is_no_prefix,
                cfg_is_no_text,
                seed=seed,
                on_text_hook=on_text_hook,
                on_audio_hook=on_audio_hook,
            )
        )
        frames: list[mx.array] = []

        def take(said: mx.array | None) -> None:
            """Frames ``[B, K, T]`` as they come."""
            if said is None:
                return
            for t in range(said.shape[2]):
                frames.append(said[:, :, t : t + 1])
                if on_frame is not None:
                    on_frame(frames[-1])

        def step() -> None:
            if (frame := run.step()) is not None:
                take(frame[:, :, None])

        if run.reads_at_once():
            self.owner.run(lambda: take(run.read_prefix()))
        while not run.done and run.offset < self.max_gen_length:
            self.owner.run(step)
        self.owner.run(lambda: mx.eval(frames))
        states = run.states
        return TTSResult(
            frames,
            run.logged,
            [state.end_step for state in states],
            [state.consumption_times for state in states],
            [state.transcript for state in states],
        )

    def _begin(self, *args: Any, **options: Any) -> SpeechRun:
        self.mimi.reset_all()  # the caller decodes with its default stream
        return SpeechRun(self, *args, **options)

    def warmup(self, guidance: float = 2.0) -> None:
        """Run a few steps, so that the first real one is not slow.

        Args:
            guidance: the guidance of the real run.
        """
        self.owner.run(lambda: self._warm(guidance))

    def _warm(self, guidance: float) -> None:
        coef = 1.0 if self.valid_cfg_conditionings else guidance
        attributes = self.make_condition_attributes([])
        run = SpeechRun(self, [[]], [attributes], cfg_coef=coef)
        for _ in range(self.delay_steps + max(self.lm.delays) + 2):
            run.step()
        self.mimi.warmup()

    def session(
        self,
        voice: Voice | Sequence[Voice] | None = None,
        *,
        guidance: float = 2.0,
        padding_between: int = 1,
        seed: int | None = None,
    ) -> SpeechSession:
        """Start a speech whose text arrives piece by piece, see ``SpeechSession``.

        Args:
            voice: a name or file, or several for several speakers; by default the
                model's ``usual_voice``.
        """
        chosen = self.usual_voice if voice is None else voice
        names = [chosen] if isinstance(chosen, str | Path) else chosen
        # Not on the model's thread: voices may have to be downloaded.
        voices = [self.get_voice_path(str(name)) for name in names]
        return self.owner.run(
            lambda: SpeechSession(self, voices, guidance, padding_between, seed)
        )

    def stream(
        self,
        text: Iterable[str],
        voice: Voice | Sequence[Voice] | None = None,
        **options: Any,
    ) -> Iterator[Pcm]:
        """Yield frames ``[1920]`` of sound as soon as the pieces of ``text`` allow.

        Args:
            text: pieces of one text, cut anywhere; ``options`` are ``session``'s.
        """
        with self.session(voice, **options) as session:
            for piece in text:
                yield from session.feed(piece)
            yield from session.finish()

    async def astream(
        self,
        text: AsyncIterable[str],
        voice: Voice | Sequence[Voice] | None = None,
        **options: Any,
    ) -> AsyncIterator[Pcm]:
        """Like ``stream``, for asyncio."""
        session = await asyncio.to_thread(self.session, voice, **options)
        async with session:
            async for piece in text:
                async for frame in session.afeed(piece):
                    yield frame
            async for frame in session.afinish():
                yield frame

    def say(
        self,
        text: str | Sequence[str],
        voice: Voice | Sequence[Voice] | None = None,
        **options: Any,
    ) -> Audio:
        """Speak a text, or a list of turns of two speakers; options as in ``session``.

        Raises: ConfigError for a text without words.
        """
        turns = [text] if isinstance(text, str) else text
        known = [without_unknown(self.tokenizer, turn)[0] for turn in turns]
        if not any(entry.tokens for entry in self.prepare_script(known)):
            raise ConfigError(
                "say: the text has no words that the model can say: give some, in a "
                "language and script that it knows."
            )
        frames: list[Pcm] = []
        with self.session(voice, **options) as session:
            for index, turn in enumerate(turns):
                frames += [*session.turn(index), *session.feed(turn)]
            frames += session.finish()
        rate = int(self.mimi.sample_rate)
        return Audio(np.concatenate(frames), session.words, rate)

    async def asay(
        self,
        text: str | Sequence[str],
        voice: Voice | Sequence[Voice] | None = None,
        **options: Any,
    ) -> Audio:
        """Like ``say``, for asyncio."""
        return await asyncio.to_thread(self.say, text, voice, **options)

    def speak(
        self,
        source: str | TextSource,
        voice: Voice | Sequence[Voice] | None = None,
        *,
        out: Path | None = None,
        words: Path | None = None,
        layout: Layout = LAYOUT,
        on_frame: Callable[[Pcm], None] = lambda _: None,
        **options: Any,
    ) -> SpokenText:
        """Speak a text as it arrives, into files or to ``on_frame``.

        ``moshi-mlx speak`` as a function. With several voices each line of the text is
        another speaker's turn.

        Args:
            source: a text, the name of a text file, or "-" for standard input.
            out: sound file to write; its name sets the format.
            words: file for the words with their times: .json, .srt, .txt or .vtt.
            layout: of subtitles.
            on_frame: called with each frame ``[1920]`` of sound.

        Raises: ConfigError for a text without words. After Ctrl-C the files hold
            everything said so far.
        """
        given = TextSource(source) if isinstance(source, str) else source
        return speak_text(
            self,
            given,
            self.session(voice, **options),
            dialogue=not isinstance(voice, str | Path | None) and len(voice) > 1,
            out=out,
            words=words,
            layout=layout,
            on_frame=on_frame,
        )

    def say_scripts(
        self,
        scripts: Iterable[Script | Failure],
        folder: str | Path,
        *,
        batch_size: int = 1,
        guidance: float = 2.0,
        padding_between: int = 1,
        only_wav: bool = False,
        seed: int | None = None,
        about: Mapping[str, Any] | None = None,
        on_result: Callable[[Path | Failure], None] = lambda _: None,
    ) -> list[Path | Failure]:
        """Speak many scripts, ``batch_size`` at once, and write a sound file for each.

        Each result is the same as if its script were spoken alone, and a script that
        fails does not affect the others.

        Args:
            scripts: from ``read_scripts``; its bad lines become results at once.
            folder: gets ``ID.wav`` and, unless ``only_wav``, ``ID.safetensors`` (codes)
                and ``ID.json`` (words, times, settings).
            about: additional content of the JSON files.
            on_result: called with each file or failure as soon as it is ready.
        """
        found = list(scripts)
        good = [script for script in found if isinstance(script, Script)]
        results: list[Path | Failure] = [f for f in found if isinstance(f, Failure)]
        for failure in results:
            on_result(failure)
        writer = ScriptWriter(
            self,
            Path(folder),
            found_voices(self, good),
            guidance,
            padding_between,
            only_wav,
            seed,
            about,
        )
        for result in self.owner.iterate(lambda: writer.say(good, batch_size)):
            if result is not None:
                results.append(result)
                on_result(result)
        return results
