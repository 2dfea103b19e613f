"""What PersonaPlex is told before a conversation: whose voice to take, and who to be.

The prompt is a voice, half a second of silence, the persona spelled by the text stream,
and silence again; the user's side hears a constant tone. A prompt is read once and
kept, so that another conversation with the same persona starts at once.

Source: NVIDIA/personaplex, moshi/models/lm.py (``step_system_prompts``).
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...audio.framing import SAMPLE_RATE
from ...checkpoint.info import CheckpointInfo
from ...codec import Codec
from ...errors import ConfigError
from ...models.config import LmConfig
from ...models.generate import LmGen
from ...models.given import Tokens
from ...models.lm import Lm
from ...models.prompt import Frames, joined, read_prompt
from ...models.snapshot import kept
from ...utils.text import Tokenizer
from .persona_voices import PersonaVoice, load_voice
from .rows import RowGen

SILENCE_FRAMES = 6  # half a second, before the text and after it
SYSTEM = "<system>"
KEPT = 4  # prompts, the newest; one of 160 frames of the 7B model takes 80 MiB
# What the released codec makes of silence and of the tone: NVIDIA's constants.
SILENCE = (948, 243, 1178, 546, 1736, 1030, 1978, 2008)
TONE = (430, 1268, 381, 1611, 1095, 1495, 56, 472)
TONE_HZ = 440.0  # of the tone that any other codec is given
# generator, row, seed -> the text token that was chosen, if a call was made
Start = Callable[[RowGen, int, int], int | None]


@dataclass(frozen=True)
class Persona:
    """Who a model is to be.

    Attributes:
        text: in words, such as "You are a patient teacher."; may be empty.
        voice: a name as in ``moshi-mlx voices``, a recording of 10 to 30 seconds, or a
            file (.pt, .safetensors); None leaves it to the model.
    """

    text: str = ""
    voice: str | Path | None = None


def greet(gen: RowGen, row: int, greeting: Sequence[int]) -> None:
    """Let a row say text tokens next, one a call."""
    if greeting:
        gen.force(text=[list(greeting)], rows=[row])


class Prompted(Protocol):
    """What is used of a ``Moshi``."""

    info: CheckpointInfo
    lm: Lm
    tokenizer: Tokenizer
    name: str
    make_codec: Callable[[], Codec]


def persona_tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of a persona between two marks; none of an empty one."""
    text = text.strip()
    if not text:
        return []
    if not (text.startswith(SYSTEM) and text.endswith(SYSTEM)):
        text = f"{SYSTEM} {text} {SYSTEM}"
    return list(tokenizer.encode(text))


class PersonaPrompts:
    """Prompts of one model, of which the newest are kept.

    Args:
        moshi: a model that takes a persona.
    """

    def __init__(self, moshi: Prompted):
        self._moshi: Prompted = weakref.proxy(moshi)  # which holds this object
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._constants: tuple[Tokens, Tokens] | None = None

    def start(self, persona: Persona, greeting: Sequence[int] = ()) -> Start:
        """How a row starts as this persona; computes on the model's thread.

        Args:
            greeting: text tokens that it says first, one a frame.

        Raises: ConfigError for a text that is too long; CheckpointError or AudioError
            for a voice that is none.
        """
        ids = persona_tokens(self._moshi.tokenizer, persona.text)
        longest = self._moshi.lm.cfg.transformer.context // 2
        if len(ids) > longest:
            raise ConfigError(
                f"the persona has {len(ids)} tokens, and {self._moshi.name} takes up "
                f"to {longest}: shorten it."
            )
        voice = None
        if persona.voice is not None:
            voice = load_voice(persona.voice, self._moshi.info)

        def begin(gen: RowGen, row: int, seed: int) -> int:
            if gen.guidance.doubles:
                raise ConfigError(
                    f"{self._moshi.name} takes a persona and no guidance: leave out "
                    "cfg_coef."
                )
            state, last = self._state(ids, voice, gen.adapters[row])
            gen.continue_from(state, row)
            gen.noise.reseed(row, seed)
            greet(gen, row, greeting)
            heard = np.zeros((gen.batch_size, len(last)), np.int32)
            heard[row] = last
            active = [other == row for other in range(gen.batch_size)]
            text, _ = gen.step(mx.array(heard), active=active)
            return int(np.array(text)[row, 0])

        return begin

    def forget(self) -> None:
        """Let go of all prompts."""
        self._kept.clear()

    def _state(
        self, ids: list[int], voice: PersonaVoice | None, adapter: int
    ) -> tuple[Any, Tokens]:
        """State after the prompt but its last call, and what that call hears."""
        key = (tuple(ids), None if voice is None else voice.key, adapter)
        _, tone = self._codes()
        if key not in self._kept:
            lm = self._moshi.lm
            exposed = lm.transformer_cache
            gen = LmGen(lm, seed=0)
            gen.adapters = [adapter]
            read_prompt(gen, self._prompt(ids, voice), finish=False)
            self._kept[key] = kept(gen.snapshot(0).state)
            lm.expose_cache(exposed)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key], tone

    def _prompt(self, ids: list[int], voice: PersonaVoice | None) -> Frames:
        """All frames of the prompt."""
        cfg = self._moshi.lm.cfg
        silence, tone = self._codes()

        def quiet(text: list[int]) -> Frames:
            own = np.repeat(silence[:, None], len(text), axis=1)
            return told(text, own, tone)

        pause = quiet([cfg.text_padding_token] * SILENCE_FRAMES)
        parts = [pause, quiet(ids), pause] if ids else [pause, pause]
        if voice is None:
            return joined(parts)
        return joined([self._voice(voice, tone), *parts])

    def _voice(self, voice: PersonaVoice, tone: Tokens) -> Frames:
        """The frames in which a voice is heard."""
        lm = self._moshi.lm
        if voice.embeddings is not None and voice.cache is not None:
            return embedded(voice.embeddings, voice.cache, lm, voice.name)
        codes, own = self.codes_of(voice), lm.cfg.generated_codebooks
        if codes.shape[0] < own or codes.max() >= lm.cfg.audio_padding_token:
            raise ConfigError(
                f"the voice {voice.name} was not made for {self._moshi.name}: its "
                "codes are another codec's."
            )
        return told([lm.cfg.text_padding_token] * codes.shape[1], codes[:own], tone)

    def codes_of(self, voice: PersonaVoice) -> Tokens:
        """Codes ``[K, F]`` of a voice that is a recording, or codes already."""
        if voice.codes is not None:
            return voice.codes
        assert voice.pcm is not None
        return encoded(self._moshi.make_codec, voice.pcm)

    def _codes(self) -> tuple[Tokens, Tokens]:
        """Codes ``[own]`` of silence and ``[other]`` of the tone."""
        if self._constants is None:
            cfg = self._moshi.lm.cfg
            if self._moshi.info.mimi_config is None and cfg.generated_codebooks == 8:
                silence, tone = (np.array(c, np.int32) for c in (SILENCE, TONE))
            else:
                silence, tone = _made(self._moshi.make_codec)
            self._constants = (
                silence[: cfg.generated_codebooks],
                tone[: cfg.other_codebooks],
            )
        return self._constants


def _made(make_codec: Callable[[], Codec]) -> tuple[Tokens, Tokens]:
    """What a codec makes of half a second of silence, and of the tone, at its end."""
    samples = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    tone = 0.5 * np.sin(2 * np.pi * TONE_HZ * samples)
    silence, heard = (encoded(make_codec, pcm) for pcm in (0 * samples, tone))
    return silence[:, -1], heard[:, -1]


def encoded(make_codec: Callable[[], Codec], pcm: NDArray[Any]) -> Tokens:
    """Codes ``[K, F]`` of a sound ``[S]`` at 24 kHz, the last frame filled up."""
    codec = make_codec()
    size = codec.frame_size
    padded = np.pad(pcm.astype(np.float32), (0, -len(pcm) % size))
    frames = [
        codec.encode_step(padded[None, None, start : start + size])[0]
        for start in range(0, len(padded), size)
    ]
    return np.concatenate(frames, axis=1).astype(np.int32)


def told(text: list[int], own: Tokens, tone: Tokens) -> Frames:
    """Frames of text ``[F]`` and own codes ``[own, F]``; the user's side hears the
    tone ``[other]``."""
    theirs = np.repeat(tone[:, None], len(text), axis=1)
    return Frames(np.concatenate([[text], own, theirs]).astype(np.int32))


def embedded(
    embeddings: mx.array, cache: NDArray[np.int64], lm: Lm, name: str
) -> Frames:
    """A voice as NVIDIA keeps it.

    Args:
        embeddings: ``[N, D]``, what the transformer reads in the calls of N + 1 frames.
        cache: ``[1 + n_q, W]``, the newest W columns of tokens, column c at c mod W.

    Raises: ConfigError for a voice of another model.
    """
    cfg: LmConfig = lm.cfg
    delays = [cfg.text_delay, *cfg.audio_delays]
    count, dim = embeddings.shape
    if dim != cfg.transformer.d_model or cache.shape[0] != len(delays):
        raise ConfigError(
            f"the voice {name} has {dim} numbers a frame and {cache.shape[0]} streams, "
            f"the model {cfg.transformer.d_model} and {len(delays)}: it was made for "
            "another model."
        )
    width = cache.shape[1]
    tokens = np.full((len(delays), count + 1), -1, np.int32)
    for stream, delay in enumerate(delays):
        for frame in range(max(count - delay, 0), count + 1):
            tokens[stream, frame] = cache[stream, (frame + delay) % width]
    cards = [cfg.text_in_vocab_size] + [cfg.audio_vocab_size] * cfg.audio_codebooks
    if (tokens < -1).any() or (tokens >= np.array(cards)[:, None]).any():
        raise ConfigError(f"the voice {name} is damaged: it holds impossible tokens.")
    return Frames(tokens, embeddings)
