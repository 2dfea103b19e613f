"""The parts of a speaking model and its settings, before it says anything."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from ...audio.long import short_sound
from ...errors import AudioError, ConfigError
from ...models.lm import Lm
from ...models.mimi import Mimi
from ...modules.conditioner import (
    ConditionAttributes,
    LutConditioner,
    TensorConditioner,
)
from ...utils.sampling import Sampler
from ..about import about
from ..base import BaseEngine
from ..owner import HERE, Owner
from .machine import Entry, StateMachine, TokenIds
from .script import SpeechTokenizer, script_to_entries
from .voices import (
    SPEAKER,
    find_voice,
    nearest,
    speaker_condition,
    voice_names,
    voice_suffix,
)

DEFAULT_DSM_TTS_VOICE_REPO = "kyutai/tts-voices"
DEFAULT_VOICE = "expresso/ex03-ex01_happy_001_channel1_334s.wav"  # Kyutai's
MAX_SPEAKERS = 5
SURPLUS_PREFIX = 2  # last frames of a recording to leave out


class SpeechModel(BaseEngine):
    """A speaking model: language model, codec, tokenizer, and settings.

    Everything public may be set between speeches. ``cfg_coef`` other than 1 runs the
    model twice, and is refused if the model has learnt guidance as a condition
    (``valid_cfg_conditionings``). ``n_q`` is the number of codebooks to generate: fewer
    are faster. ``padding_bonus`` above 0 slows the speech down.

    Args:
        temp: temperature of text and audio.
        final_padding: steps after the last word.
        max_gen_length: steps after which ``generate`` gives up.
        initial_padding: steps before the first word.
        max_padding: longest run of padding steps that the model may choose.
        voice_repo: where ``get_voice_path`` looks.
        raw_config: the checkpoint's config.json: ``tts_config``, ``model_id``.
        top_p: probability mass to draw from, instead of the 250 likeliest codes and the
            25 likeliest text tokens.
        name: shown by ``repr``.
        owner: the thread that computes; by default the caller's.

    Raises: ConfigError if the config is not that of a speaking model.
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
        *,
        top_p: float | None = None,
        name: str = "a model",
        owner: Owner = HERE,
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
        self.name = name
        self.owner = owner
        self.about = about(lm)
        self.temp = temp
        self.top_p = top_p
        self.cfg_coef = cfg_coef
        self.final_padding = final_padding
        self.n_q = min(n_q, lm.dep_q)
        self.max_gen_length = max_gen_length
        self.padding_bonus = padding_bonus
        self.voice_repo = voice_repo
        self.voice_suffix = voice_suffix(raw_config) if self.multi_speaker else ""
        self.usual_voice: str = tts_config.get("voice") or DEFAULT_VOICE
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
        """Guidance coefficients that the model has learnt as a condition."""
        provider = self.lm.condition_provider
        cfg = None if provider is None else provider.conditioners.get("cfg")
        if not isinstance(cfg, LutConditioner) or cfg.possible_values is None:
            return set()
        return {float(value) for value in cfg.possible_values}

    @property
    def multi_speaker(self) -> bool:
        """Whether voices are embeddings, and turns switch between them."""
        provider = self.lm.condition_provider
        return provider is not None and SPEAKER in provider.conditioners

    def sampler(self, top_k: int) -> Sampler:
        """Draws by ``top_p`` if it is set, else from the ``top_k`` likeliest."""
        if self.top_p is None:
            return Sampler(self.temp, top_k=top_k)
        return Sampler(self.temp, self.top_p)

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

    def get_voice_path(self, voice_name: str) -> Path:
        """The file of a voice by name: see ``find_voice``."""
        return find_voice(voice_name, self.voice_repo, self.voice_suffix)

    def voices(self, search: str = "") -> list[str]:
        """Names of the voices that ``voice_repo`` has for this model.

        Args:
            search: only names that contain this, or the five closest to it.
        """
        names = voice_names(self.voice_repo, self.voice_suffix)
        found = [name for name in names if search.lower() in name.lower()]
        return found or nearest(search, names, count=5)

    def make_condition_attributes(
        self, voices: Sequence[Path | mx.array], cfg_coef: float | None = None
    ) -> ConditionAttributes:
        """Conditions of one row.

        Args:
            voices: embedding files or embeddings ``[1, D, T]``, the main speaker's
                first; without any the model chooses a voice.
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
                    f"cfg_coef {cfg_coef} is not a value that the model has learnt: "
                    f"use one of {valid or 'none (set tts.cfg_coef)'}."
                )
            text["cfg"] = f"{cfg_coef:.1f}"
        speaker = known.get(SPEAKER)
        if not isinstance(speaker, TensorConditioner):
            return ConditionAttributes(text=text)
        voice = self.owner.run(
            lambda: speaker_condition(voices, self.max_speakers, speaker)
        )
        return ConditionAttributes(text=text, tensor={SPEAKER: voice})

    def get_prefix(self, audio_path: Path, most_s: float | None = None) -> mx.array:
        """A recording as a prefix, codes ``[1 + n_q, P]`` without text.

        Its last two frames are left out, because the encoder could not hear them
        completely.

        Args:
            most_s: seconds after which the rest is left out.
        """
        rate = int(self.mimi.sample_rate)
        pcm = short_sound(audio_path, rate)[None]
        if most_s is not None:
            pcm = pcm[:, : round(most_s * rate)]
        prefix = self.owner.run(lambda: self._prefix(pcm))
        if not prefix.shape[1]:
            raise AudioError(
                f"{audio_path} is too short to be a voice: give about 10 seconds."
            )
        return prefix

    def _prefix(self, pcm: np.ndarray) -> mx.array:
        codes = self.mimi.encode(mx.array(pcm)[None])[0, : self.lm.n_q, :]
        codes = codes[:, :-SURPLUS_PREFIX]
        text = mx.full((1, codes.shape[1]), self.machine.token_ids.zero)
        prefix = mx.concatenate([text, codes])
        mx.eval(prefix)
        return prefix
