"""Recordings as sequences on which a model can be measured."""

from collections.abc import Iterable
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..audio import FRAME, frames
from ..checkpoint.quality import Streams
from ..engines.duplex.engine import Moshi
from ..errors import AudioError, ConfigError
from ..models.generate import LmGen
from ..modules.conditioner import ConditionAttributes, TensorCondition
from ..utils.sampling import Sampler

QUESTIONS = Path(__file__).parents[1] / "demo" / "questions"
MAX_FRAMES = 750  # a minute: predictions of the 7B for it are 150 MB
ANSWER_FRAMES = 38  # 3 s of silence after a recording, in which a model answers


def shipped_recordings() -> list[Path]:
    """The questions that come with the package."""
    return sorted(QUESTIONS.glob("*.wav"))


def sequences(moshi: Moshi, recordings: Iterable[Path], seed: int = 0) -> list[Streams]:
    """What a model hears and says when it is given recordings.

    A model that listens answers (sampling as usual, with ``seed``). For one that only
    speaks, the recording counts as its own speech, without text.

    Args:
        moshi: in full precision.
        recordings: sound files; only the first minute of each is used.

    Raises: AudioError if a file is not a sound, ConfigError for a model without audio.
    """
    if not moshi.lm.n_q:
        raise ConfigError(
            f"{moshi.name} knows text only: quality is measured on recordings."
        )
    answers = bool(moshi.lm.cfg.other_codebooks)
    found = []
    for path in recordings:
        codes = _encode(moshi, path, ANSWER_FRAMES if answers else 0)
        found.append(_answered(moshi, codes, seed) if answers else _said(moshi, codes))
    return found


def _encode(moshi: Moshi, path: Path, silent: int) -> np.ndarray:
    """Codes ``[K, T]`` of a recording and of silence after it."""
    codec = moshi.make_codec()
    heard = [frame for frame, _ in zip(frames(path), range(MAX_FRAMES), strict=False)]
    if not heard:
        raise AudioError(f"{path} holds no sound.")
    heard += [np.zeros(FRAME, np.float32)] * silent
    return np.stack([codec.encode_step(f[None, None])[0, :, 0] for f in heard], axis=1)


def _answered(moshi: Moshi, heard: np.ndarray, seed: int) -> Streams:
    """The model's own answer to codes ``[K, T]``, together with them."""
    lm, ct = moshi.lm, moshi.conditions(1.0)
    s, t, late = moshi.sampling, heard.shape[1], moshi.lm.cfg.max_delay
    gen = LmGen(
        lm,
        text_sampler=Sampler(s.temp_text, top_p=0, top_k=s.top_k_text),
        audio_sampler=Sampler(s.temp, top_p=0, top_k=s.top_k),
        seed=seed,
    )
    others = mx.array(heard[: lm.cfg.other_codebooks].astype(np.int32))
    text, own = [], []
    for call in range(t + late):
        # the frame given in the very first call is never heard: given twice
        given = others[:, min(max(call - 1, 0), t - 1)][None]
        said, _ = gen.step(given, ct)
        text.append(said[0])
        if lm.dep_q and call >= late:
            completed = gen.last_audio_tokens()
            assert completed is not None
            own.append(completed[0])
        mx.eval(text[-1], own[-1:])
    streams = [mx.concatenate(text[:t])[None]]
    streams += [mx.stack(own[:t], axis=1)] if own else []
    return Streams(mx.concatenate([*streams, others])[None], ct)


def _said(moshi: Moshi, codes: np.ndarray) -> Streams:
    """Codes ``[K, T]`` as the model's own, with no text and no conditions."""
    lm = moshi.lm
    text = np.full((1, codes.shape[1]), lm.cfg.text_padding_token)
    whole = mx.array(np.concatenate([text, codes[: lm.n_q]]).astype(np.int32))[None]
    provider = lm.condition_provider
    if provider is None:
        return Streams(whole)
    nothing = {
        name: TensorCondition(mx.zeros((1, 1, entry.input_dim)), mx.zeros((1, 1)))
        for name, entry in provider.conditioners.items()
        if name not in _texts(moshi)
    }
    _, cross = provider.fuse([ConditionAttributes(text={}, tensor=nothing)])
    return Streams(whole, provider.null(), cross)


def _texts(moshi: Moshi) -> list[str]:
    entries = moshi.info.config.get("conditioners") or {}
    return [name for name, entry in entries.items() if entry["type"] == "lut"]
