"""TTSModel: scripts and voices in, codes out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ...audio.files import read
from ...errors import AudioError, ConfigError
from ...models.lm import Lm
from ...models.mimi import Mimi
from ...modules.conditioner import (
    ConditionAttributes,
    LutConditioner,
    TensorConditioner,
)
from .machine import Entry, StateMachine, TokenIds
from .run import Hook, SpeechRun
from .script import SpeechTokenizer, script_to_entries, without_unknown
from .session import Audio, Pcm, SpeechSession, Voice
from .voices import SPEAKER, find_voice, speaker_condition, voice_suffix

DEFAULT_DSM_TTS_REPO = "kyutai/tts-1.6b-en_fr"
DEFAULT_DSM_TTS_VOICE_REPO = "kyutai/tts-voices"
DEFAULT_VOICE = "expresso/ex03-ex01_happy_001_channel1_334s.wav"  # of Kyutai's scripts
MAX_SPEAKERS = 5
SURPLUS_PREFIX = 2  # last frames of a recording that are not continued


@dataclass
class TTSResult:
    """What a batch of speeches came to.

    Attributes:
        frames: codes ``[B, K, 1]``, delays undone, from the first frame of sound on:
            frame i is said with text step i.
        logged_text_tokens: per row, (predicted, read) of each step.
        end_steps: per row, the step after the last word; None where the budget ended
            before the text.
        all_consumption_times: per row, the step at which each entry was taken.
        all_transcripts: per row, each word with its step.
    """

    frames: list[mx.array]
    logged_text_tokens: list[list[tuple[int, int]]]
    end_steps: list[int | None]
    all_consumption_times: list[list[int]]
    all_transcripts: list[list[tuple[str, int]]]


class TTSModel:
    """A speaking model: language model, codec, tokenizer, and how it was trained.

    Everything public may be set between speeches. ``cfg_coef`` other than 1 runs the
    model twice, and is refused where the model learnt guidance as a condition
    (``valid_cfg_conditionings``); ``n_q`` is the number of codebooks to generate, fewer
    are faster; ``padding_bonus`` above 0 speaks more slowly.

    Args:
        temp: temperature of text and audio.
        final_padding: steps after the last word.
        max_gen_length: steps after which ``generate`` gives up.
        initial_padding: steps before the first word.
        max_padding: steps of padding in a row that the model may choose.
        voice_repo: where ``get_voice_path`` looks.
        raw_config: the checkpoint's config.json: ``tts_config``, ``model_id``.

    Raises: ConfigError where the config is not that of a speaking model.
    """

    def __init__(
        self,
        lm: Lm,
        mimi: Mimi,
        tokenizer: SpeechTokenizer,
        temp: float = 0.6,
        cfg_coef: float = 1.0,
        final_padding: int = 4,
        n_q: int = 32,
        max_gen_length: int = 30000,
        padding_bonus: float = 0.0,
        initial_padding: int = 2,
        max_padding: int = 8,
        voice_repo: str = DEFAULT_DSM_TTS_VOICE_REPO,
        raw_config: Mapping[str, Any] | None = None,
    ):
        raw_config = {} if raw_config is None else raw_config
        tts_config = raw_config.get("tts_config") or {}
        if "audio_delay" not in tts_config:
            raise ConfigError(
                "config.json has no tts_config with an audio_delay: it is not that of "
                "a text-to-speech model."
            )
        if not lm.dep_q:
            raise ConfigError("the model has no depth transformer: it cannot speak.")
        self.lm = lm
        self.mimi = mimi
        self.tokenizer = tokenizer
        self.temp = temp
        self.cfg_coef = cfg_coef
        self.final_padding = final_padding
        self.n_q = min(n_q, lm.dep_q)
        self.max_gen_length = max_gen_length
        self.padding_bonus = padding_bonus
        self.voice_repo = voice_repo
        self.voice_suffix = voice_suffix(raw_config) if self.multi_speaker else ""
        self.max_speakers: int = tts_config.get("max_speakers", MAX_SPEAKERS)
        self.delay_steps = int(tts_config["audio_delay"] * mimi.frame_rate)
        self.machine = StateMachine(
            token_ids=TokenIds(lm.cfg.text_in_vocab_size),
            second_stream_ahead=tts_config.get("second_stream_ahead", 0),
            max_padding=max_padding,
            initial_padding=initial_padding,
        )

    @cached_property
    def valid_cfg_conditionings(self) -> set[float]:
        """Guidance coefficients that the model learnt as a condition."""
        provider = self.lm.condition_provider
        cfg = None if provider is None else provider.conditioners.get("cfg")
        if not isinstance(cfg, LutConditioner) or cfg.possible_values is None:
            return set()
        return {float(value) for value in cfg.possible_values}

    @property
    def multi_speaker(self) -> bool:
        """Whether voices are embeddings, and turns change them."""
        provider = self.lm.condition_provider
        return provider is not None and SPEAKER in provider.conditioners

    def prepare_script(
        self, script: Sequence[str], padding_between: int = 0
    ) -> list[Entry]:
        """Turns of text as entries: see ``script_to_entries``."""
        return script_to_entries(
            self.tokenizer,
            self.machine.token_ids,
            self.mimi.frame_rate,
            script,
            multi_speaker=self.multi_speaker,
            padding_between=padding_between,
        )

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
        """Say a batch of scripts; each row's tokens are those of the row alone.

        Args:
            all_entries: per row, from ``prepare_script``.
            attributes: per row, from ``make_condition_attributes``; may be empty.
            on_frame: is given each frame's codes ``[B, K, 1]`` as they come.

        See ``SpeechRun`` for the rest.
        """
        self.mimi.reset_all()  # the caller decodes with its default stream
        run = SpeechRun(
            self,
            all_entries,
            attributes,
            prefixes,
            cfg_is_no_prefix,
            cfg_is_no_text,
            seed=seed,
            on_text_hook=on_text_hook,
            on_audio_hook=on_audio_hook,
        )
        frames: list[mx.array] = []
        while not run.done and run.offset < self.max_gen_length:
            frame = run.step()
            if frame is None:
                continue
            frames.append(frame[:, :, None])
            if on_frame is not None:
                on_frame(frames[-1])
        states = run.states
        return TTSResult(
            frames,
            run.logged,
            [state.end_step for state in states],
            [state.consumption_times for state in states],
            [state.transcript for state in states],
        )

    def warmup(self, guidance: float = 2.0) -> None:
        """Run a few steps, so that the first real one does not wait for set-up.

        Args:
            guidance: that will be used; one that the model learnt needs no warming.
        """
        coef = 1.0 if self.valid_cfg_conditionings else guidance
        attributes = self.make_condition_attributes([])
        run = SpeechRun(self, [[]], [attributes], cfg_coef=coef)
        for _ in range(self.delay_steps + max(self.lm.delays) + 2):
            run.step()
        self.mimi.warmup()

    def session(
        self,
        voice: Voice | Sequence[Voice] = DEFAULT_VOICE,
        *,
        guidance: float = 2.0,
        padding_between: int = 1,
        seed: int | None = None,
    ) -> SpeechSession:
        """A speech whose text comes bit by bit: see ``SpeechSession``."""
        voices = [voice] if isinstance(voice, str | Path) else voice
        return SpeechSession(self, voices, guidance, padding_between, seed)

    def stream(
        self,
        text: Iterable[str],
        voice: Voice | Sequence[Voice] = DEFAULT_VOICE,
        **options: Any,
    ) -> Iterator[Pcm]:
        """Frames ``[1920]`` of sound, as early as the pieces of ``text`` allow.

        Args:
            text: pieces of one text, cut anywhere; ``options`` are ``session``'s.
        """
        session = self.session(voice, **options)
        for piece in text:
            yield from session.feed(piece)
        yield from session.finish()

    def say(
        self,
        text: str | Sequence[str],
        voice: Voice | Sequence[Voice] = DEFAULT_VOICE,
        **options: Any,
    ) -> Audio:
        """Speech of a text, or of turns that two speakers take; ``session``'s options.

        Raises: ConfigError for a text without words.
        """
        turns = [text] if isinstance(text, str) else text
        known = [without_unknown(self.tokenizer, turn)[0] for turn in turns]
        if not any(entry.tokens for entry in self.prepare_script(known)):
            raise ConfigError(
                "the text has no words that the model can say: give some, in a "
                "language and script that it knows."
            )
        session = self.session(voice, **options)
        frames: list[Pcm] = []
        for index, turn in enumerate(turns):
            frames += [*session.turn(index), *session.feed(turn)]
        frames += session.finish()
        rate = int(self.mimi.sample_rate)
        return Audio(np.concatenate(frames), session.words, rate)

    def get_voice_path(self, voice_name: str) -> Path:
        """The file of a voice by name: see ``find_voice``."""
        return find_voice(voice_name, self.voice_repo, self.voice_suffix)

    def make_condition_attributes(
        self, voices: Sequence[Path], cfg_coef: float | None = None
    ) -> ConditionAttributes:
        """Conditions of one row.

        Args:
            voices: embedding files, the main speaker's first; without any the model
                chooses a voice.
            cfg_coef: guidance, for models that learnt it as a condition.

        Raises: ConfigError for a coefficient that the model did not learn.
        """
        provider = self.lm.condition_provider
        known = {} if provider is None else provider.conditioners
        text: dict[str, str | None] = {}
        if "control" in known:
            text["control"] = "ok"
        if "cfg" in known:
            text["cfg"] = None
        if cfg_coef is not None:
            if cfg_coef not in self.valid_cfg_conditionings:
                valid = ", ".join(map(str, sorted(self.valid_cfg_conditionings)))
                raise ConfigError(
                    f"cfg_coef {cfg_coef} is no value that the model learnt: use one "
                    f"of {valid or 'none (set tts.cfg_coef)'}."
                )
            text["cfg"] = f"{cfg_coef:.1f}"
        speaker = known.get(SPEAKER)
        if not isinstance(speaker, TensorConditioner):
            return ConditionAttributes(text=text)
        voice = speaker_condition(voices, self.max_speakers, speaker)
        return ConditionAttributes(text=text, tensor={SPEAKER: voice})

    def get_prefix(self, audio_path: Path) -> mx.array:
        """A recording as a prefix, codes ``[1 + n_q, P]`` without text.

        Its last two frames, which the encoder could not hear to their end, are left
        out.
        """
        pcm = read(audio_path, sample_rate=int(self.mimi.sample_rate))
        codes = self.mimi.encode(mx.array(pcm)[None])[0, : self.lm.n_q, :]
        codes = codes[:, :-SURPLUS_PREFIX]
        if not codes.shape[1]:
            raise AudioError(
                f"{audio_path} is too short to be a voice: give some 10 seconds."
            )
        text = mx.full((1, codes.shape[1]), self.machine.token_ids.zero)
        return mx.concatenate([text, codes])
