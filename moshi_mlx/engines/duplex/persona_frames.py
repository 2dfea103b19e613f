"""The frames of PersonaPlex's prompts: text, and codes of both sides.

Source: NVIDIA/personaplex, moshi/models/lm.py.
"""

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...audio.framing import SAMPLE_RATE
from ...codec import Codec
from ...errors import ConfigError
from ...models.config import LmConfig
from ...models.given import Tokens
from ...models.lm import Lm
from ...models.prompt import Frames

# What the released codec makes of silence and of the tone: NVIDIA's constants.
SILENCE = (948, 243, 1178, 546, 1736, 1030, 1978, 2008)
TONE = (430, 1268, 381, 1611, 1095, 1495, 56, 472)
TONE_HZ = 440.0  # the tone for any other codec


def silence_and_tone(make_codec: Callable[[], Codec]) -> tuple[Tokens, Tokens]:
    """Codes of the last frames of half a second of silence, and of the tone."""
    samples = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    tone = 0.5 * np.sin(2 * np.pi * TONE_HZ * samples)
    silence, heard = (encoded(make_codec, pcm) for pcm in (0 * samples, tone))
    return silence[:, -1], heard[:, -1]


def encoded(make_codec: Callable[[], Codec], pcm: NDArray[Any]) -> Tokens:
    """Codes ``[K, F]`` of a sound ``[S]`` at 24 kHz, the last frame padded."""
    return np.concatenate(list(encoding(make_codec, pcm)), axis=1)


def encoding(make_codec: Callable[[], Codec], pcm: NDArray[Any]) -> Iterator[Tokens]:
    """``encoded`` frame by frame, ``[K, 1]`` each."""
    codec = make_codec()
    size = codec.frame_size
    padded = np.pad(pcm.astype(np.float32), (0, -len(pcm) % size))
    for start in range(0, len(padded), size):
        frame = padded[None, None, start : start + size]
        yield codec.encode_step(frame)[0].astype(np.int32)


def told(text: list[int], own: Tokens, tone: Tokens) -> Frames:
    """Frames of text ``[F]`` and own codes ``[own, F]``; the user's side hears the
    tone ``[other]``."""
    theirs = np.repeat(tone[:, None], len(text), axis=1)
    return Frames(np.concatenate([[text], own, theirs]).astype(np.int32))


def embedded(
    embeddings: mx.array, cache: NDArray[np.int64], lm: Lm, name: str
) -> Frames:
    """A voice in NVIDIA's form.

    Args:
        embeddings: ``[N, D]``, read by the transformer in the calls of N + 1 frames.
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
    if width <= max(delays):
        raise ConfigError(f"the voice {name} is damaged: it holds too few tokens.")
    tokens = np.full((len(delays), count + 1), -1, np.int32)
    for stream, delay in enumerate(delays):
        for frame in range(max(count - delay, 0), count + 1):
            tokens[stream, frame] = cache[stream, (frame + delay) % width]
    cards = [cfg.text_in_vocab_size] + [cfg.audio_vocab_size] * cfg.audio_codebooks
    if (tokens < -1).any() or (tokens >= np.array(cards)[:, None]).any():
        raise ConfigError(f"the voice {name} is damaged: it holds impossible tokens.")
    return Frames(tokens, embeddings)
