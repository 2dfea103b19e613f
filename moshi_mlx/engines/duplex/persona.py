"""PersonaPlex's prompt before a conversation: its voice, and who it is.

The prompt is a voice, half a second of silence, the persona spelled out in the text
stream, and silence again; the user's side hears a constant tone. A prompt is read once
and kept, so that another conversation with the same persona starts at once.

Source: NVIDIA/personaplex, moshi/models/lm.py (``step_system_prompts``).
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from ...checkpoint.info import CheckpointInfo
from ...codec import Codec
from ...errors import ConfigError
from ...models.generate import LmGen
from ...models.given import Tokens
from ...models.lm import Lm
from ...models.prompt import Frames, joined, reading_prompt
from ...models.snapshot import kept
from ...utils.text import Tokenizer
from ..owner import Owner
from .persona_frames import (
    SILENCE,
    TONE,
    embedded,
    encoding,
    silence_and_tone,
    told,
)
from .persona_voices import PersonaVoice, load_voice
from .rows import RowGen

SILENCE_FRAMES = 6  # half a second, before and after the text
SYSTEM = "<system>"
KEPT = 4  # newest prompts; 160 frames of the 7B model take 80 MiB
Key = tuple[Any, ...]  # of a prompt
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
    """Makes a row say text tokens next, one per call."""
    if greeting:
        gen.force(text=[list(greeting)], rows=[row])


class Prompted(Protocol):
    """The parts of ``Moshi`` that prompts use."""

    info: CheckpointInfo
    lm: Lm
    tokenizer: Tokenizer
    name: str
    make_codec: Callable[[], Codec]
    owner: Owner


def persona_tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of a persona between two marks; none for an empty one."""
    text = text.strip()
    if not text:
        return []
    if not (text.startswith(SYSTEM) and text.endswith(SYSTEM)):
        text = f"{SYSTEM} {text} {SYSTEM}"
    return list(tokenizer.encode(text))


class PersonaPrompts:
    """Prompts of one model; the newest are kept.

    Args:
        moshi: a model that takes a persona.
    """

    def __init__(self, moshi: Prompted):
        self._moshi: Prompted = weakref.proxy(moshi)  # which holds this object
        self._kept: OrderedDict[Key, Any] = OrderedDict()
        self._constants: tuple[Tokens, Tokens] | None = None

    def start(self, persona: Persona, greeting: Sequence[int] = ()) -> Start:
        """How a row starts as this persona.

        A new prompt is read here, in steps between which conversations continue.

        Args:
            greeting: text tokens to say first, one per frame.

        Raises: ConfigError for a text that is too long or a voice of another model;
            CheckpointError or AudioError for an invalid voice.
        """
        ids, voice = self._read(persona)

        def read(adapter: int = 0) -> Iterator[None]:
            return self._reading(ids, voice, adapter)

        for _ in self._moshi.owner.iterate(read):
            pass

        def begin(gen: RowGen, row: int, seed: int) -> int:
            if gen.guidance.doubles:
                raise ConfigError(
                    f"{self._moshi.name} takes a persona and no guidance: leave out "
                    "cfg_coef."
                )
            adapter = gen.adapters[row]
            for _ in read(adapter):  # others may have replaced it meanwhile
                pass
            gen.continue_from(self._kept[_key(ids, voice, adapter)], row)
            gen.noise.reseed(row, seed)
            greet(gen, row, greeting)
            _, last = self._codes()
            heard = np.zeros((gen.batch_size, len(last)), np.int32)
            heard[row] = last
            active = [other == row for other in range(gen.batch_size)]
            text, _ = gen.step(mx.array(heard), active=active)
            return int(np.array(text)[row, 0])

        return begin

    def frames(self, persona: Persona) -> Frames:
        """All frames of a prompt. Raises: as ``start``."""
        making = self._frames(*self._read(persona))
        while True:
            try:
                next(making)
            except StopIteration as made:
                return made.value

    def _read(self, persona: Persona) -> tuple[list[int], PersonaVoice | None]:
        """A persona's tokens and its voice."""
        ids = persona_tokens(self._moshi.tokenizer, persona.text)
        window = self._moshi.lm.cfg.transformer.context
        longest = window // 2  # the rest is for the voice, and for what is said
        if len(ids) > longest:
            raise ConfigError(
                f"the persona has {len(ids)} tokens, and {self._moshi.name} takes up "
                f"to {longest}: shorten it."
            )
        if persona.voice is None:
            return ids, None
        voice = load_voice(persona.voice, self._moshi.info)
        frames = voice.frames + 2 * SILENCE_FRAMES + len(ids)
        if frames > window:  # it would have forgotten the voice before it speaks
            raise ConfigError(
                f"the voice {voice.name} and the persona take {frames} frames, and "
                f"{self._moshi.name} looks back on {window}: use a shorter voice, or a "
                "shorter text."
            )
        return ids, voice

    def forget(self) -> None:
        """Drop all prompts."""
        self._kept.clear()

    # On the model's thread

    def _reading(
        self, ids: list[int], voice: PersonaVoice | None, adapter: int
    ) -> Iterator[None]:
        """Keep the state after a prompt without its last call, in steps."""
        key = _key(ids, voice, adapter)
        if key not in self._kept:
            lm = self._moshi.lm
            frames = yield from self._frames(ids, voice)
            exposed = lm.transformer_cache
            gen = LmGen(lm, seed=0)
            gen.adapters = [adapter]
            lm.expose_cache(exposed)
            yield from reading_prompt(gen, frames)
            self._kept[key] = kept(gen.snapshot(0).state)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)

    def _frames(
        self, ids: list[int], voice: PersonaVoice | None
    ) -> Generator[None, None, Frames]:
        """All frames of a prompt, made in steps."""
        parts = [self._told(ids)]
        if voice is not None:
            parts.insert(0, (yield from self._voice(voice)))
        return joined(parts)

    def _told(self, ids: list[int]) -> Frames:
        """The frames that spell out a persona: silence, its text, silence."""
        silence, tone = self._codes()
        pause = [self._moshi.lm.cfg.text_padding_token] * SILENCE_FRAMES
        text = [*pause, *ids, *pause]
        return told(text, np.repeat(silence[:, None], len(text), axis=1), tone)

    def _voice(self, voice: PersonaVoice) -> Generator[None, None, Frames]:
        """The frames that play a voice; a recording is encoded in steps."""
        lm, (_, tone) = self._moshi.lm, self._codes()
        if voice.embeddings is not None and voice.cache is not None:
            return embedded(voice.embeddings, voice.cache, lm, voice.name)
        codes = voice.codes
        if codes is None:
            assert voice.pcm is not None
            parts = []
            for part in encoding(self._moshi.make_codec, voice.pcm):
                parts.append(part)
                yield
            codes = np.concatenate(parts, axis=1)
        own = lm.cfg.generated_codebooks
        fits = len(codes) >= own and codes.min() >= 0
        if not fits or codes.max() >= lm.cfg.audio_padding_token:
            raise ConfigError(
                f"the voice {voice.name} was not made for {self._moshi.name}: its "
                "codes are another codec's."
            )
        return told([lm.cfg.text_padding_token] * codes.shape[1], codes[:own], tone)

    def _codes(self) -> tuple[Tokens, Tokens]:
        """Codes ``[own]`` of silence and ``[other]`` of the tone."""
        if self._constants is None:
            cfg = self._moshi.lm.cfg
            released = self._moshi.info.mimi_config is None
            make = self._moshi.make_codec
            if released and cfg.generated_codebooks == len(SILENCE):
                silence, tone = np.array(SILENCE, np.int32), np.array(TONE, np.int32)
            else:
                silence, tone = silence_and_tone(make)
            self._constants = (
                silence[: cfg.generated_codebooks],
                tone[: cfg.other_codebooks],
            )
        return self._constants


def _key(ids: Sequence[int], voice: PersonaVoice | None, adapter: int) -> Key:
    """What distinguishes one prompt from others."""
    return tuple(ids), None if voice is None else voice.key, adapter
