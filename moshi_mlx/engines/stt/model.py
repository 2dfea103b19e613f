"""The parts of a model that transcribes, and its training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...audio.inputs import SoundLike
from ...audio.long import LongSound, open_sound
from ...audio.resample import resample
from ...audio.samples import Pcm, as_finite
from ...codec.base import Codes
from ...errors import AudioError, ConfigError
from ...models.lm import Lm
from ...models.mimi import Mimi, MimiState
from ...utils.text import Tokenizer
from ..about import about
from ..base import BaseEngine
from ..owner import HERE, Owner
from .prompt import check_length
from .rows import FRAME_S, LATE_S, Rows

PAUSE_LENGTHS_S = (0.5, 1.0, 2.0, 3.0)  # of the extra heads of Kyutai's models
Sound = SoundLike | Pcm | LongSound


@dataclass(frozen=True)
class Listening:
    """How a model listens; made by ``Recogniser.listening``.

    Attributes:
        refresh: restart at pauses, so that it can run for hours.
        phrases: names and words to expect.
        prompt: text that is said first, with the wanted spelling.
        before: sound heard before the actual sound, float32 ``[S]``: silence, and the
            prompt's recording if there is one.
        lead: the codes ``[K]`` of ``before``, frame by frame.
        aside: whether there is a recording, whose words are not reported.
    """

    refresh: bool
    phrases: tuple[str, ...]
    prompt: str
    before: Pcm
    lead: list[Codes]
    aside: bool


class Recogniser(BaseEngine):
    """A model that transcribes: language model, codec, tokenizer, and settings.

    Args:
        raw_config: the checkpoint's config.json: ``stt_config``.
        name: shown by ``repr``.
        owner: the thread that computes; by default the caller's.

    Raises: ConfigError if the config is not that of a model that transcribes.
    """

    def __init__(
        self,
        lm: Lm,
        mimi: Mimi,
        tokenizer: Tokenizer,
        raw_config: Mapping[str, Any],
        *,
        name: str = "a model",
        owner: Owner = HERE,
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
        self.name = name
        self.owner = owner
        self.about = about(lm)
        self.delay_s = float(stt_config.get("audio_delay_seconds", 0.0))
        self.prefix_s = float(stt_config.get("audio_silence_prefix_seconds", 0.0))

    @property
    def sample_rate(self) -> int:
        """Hz of the sound that sessions take."""
        return int(self.mimi.sample_rate)

    @property
    def pause_lengths_s(self) -> tuple[float, ...]:
        """Length of pause of each probability in ``Pauses``; empty if there are
        none."""
        return PAUSE_LENGTHS_S[: len(self.lm.extra_heads)]

    @property
    def silence_before(self) -> Pcm:
        """The silence that the model must hear first."""
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
            refresh: restart the model at pauses; if false, one state is kept forever.
            phrases: names and words to expect.
            prompt: text that the sound starts with, written the way the rest should be;
                or the text of ``prompt_sound``.
            prompt_sound: a recording that the model hears before the sound, and after
                each restart; its words are not reported.

        Raises: ConfigError for a recording without its text, or one that is too long.
        """
        if prompt_sound is not None and not prompt.strip():
            raise ConfigError(
                "a prompt's recording was given without its text: say as prompt what "
                "is said in it."
            )
        before = self.silence_before
        if prompt_sound is not None:
            before = np.concatenate([before, self.samples(prompt_sound)[:]])
        lead = self._codes(before)
        if prompt_sound is not None:
            check_length(lead, self.lm.cfg.transformer.context, FRAME_S)
        aside = prompt_sound is not None
        return Listening(refresh, tuple(phrases), prompt, before, lead, aside)

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
        return np.array(self.start_encode(pcm, state)).astype(np.int32)

    def start_encode(self, pcm: Pcm, state: MimiState) -> mx.array:
        """Like ``encode``, without waiting for the codes."""
        codes = self.mimi.encode_step(mx.array(pcm), state)[:, : self.lm.n_q]
        mx.async_eval(codes, state.encoder.arrays)
        return codes

    def _codes(self, pcm: Pcm) -> list[Codes]:
        """Codes of the whole frames in ``pcm [S]``."""
        size = self.mimi.frame_size
        whole = len(pcm) // size * size
        if not whole:
            return []
        codes = self.encode(pcm[None, None, :whole], self.mimi.make_state())
        return list(codes[0].T)

    def samples(
        self, sound: Sound, sample_rate: int | None = None, called: str = "transcribe"
    ) -> "Pcm | LongSound":
        """A sound at the model's rate; long files are read while they are transcribed.

        Args:
            sample_rate: Hz of an array.
            called: the function that errors name.

        Raises: AudioError if the input is not sound.
        """
        if isinstance(sound, LongSound):
            return sound
        if not isinstance(sound, np.ndarray):
            return open_sound(sound, self.sample_rate)
        if sound.ndim != 1:
            raise AudioError(
                f"{called} got an array {list(sound.shape)}: give float32 [samples] at "
                f"{self.sample_rate} Hz (or int16, int32; or say sample_rate)."
            )
        pcm = as_finite(sound)
        rate = self.sample_rate if sample_rate is None else sample_rate
        return resample(pcm[None], rate, self.sample_rate)[0]
