"""Load the models that do not converse: those that speak, listen or write."""

from pathlib import Path
from typing import Any

from ..checkpoint.build import load_lm, load_mimi, load_tokenizer
from ..checkpoint.info import CheckpointInfo
from ..checkpoint.quantize import quantize as quantize_lm
from ..errors import ConfigError
from .owner import model_thread
from .stt import STTModel
from .text import TextModel
from .tts import DEFAULT_DSM_TTS_REPO, TTSModel

DEFAULT_STT_REPO = "kyutai/stt-1b-en_fr-candle"  # the one that also scores pauses
DEFAULT_TRANSLATION_REPO = "kyutai/hibiki-1b-mlx-bf16"
DEFAULT_TEXT_REPO = "kyutai/helium-1-preview-2b-mlx"


def load_tts(
    name: str | Path = DEFAULT_DSM_TTS_REPO,
    *,
    quantize: int | None = None,
    revision: str | None = None,
    kv_bits: int | None = None,
    info: CheckpointInfo | None = None,
    **settings: Any,
) -> TTSModel:
    """Load a model that speaks.

    Args:
        name: a folder, or a repository of the hub.
        quantize: bits to quantise an unquantised model to while loading.
        kv_bits: 8 (or 4) keeps keys and values in so many bits.
        info: a checkpoint that was found already, instead of ``name``.
        settings: of ``TTSModel``: ``temp``, ``n_q``, ``voice_repo`` ...

    Raises: CheckpointError or ConfigError, in one sentence, for whatever is wrong.
    """
    if info is None:
        info = CheckpointInfo.find(
            name, revision=revision, bits=quantize, kv_bits=kv_bits
        )
    _check_kind(info, "tts_config", "does not speak", DEFAULT_DSM_TTS_REPO)
    found, owner = info, model_thread()
    return owner.run(
        lambda: TTSModel(
            load_lm(found, bits=quantize),
            load_mimi(found),
            load_tokenizer(found),  # type: ignore[arg-type]
            raw_config=found.config,
            name=found.name,
            owner=owner,
            **settings,
        )
    )


def load_stt(
    name: str | Path = DEFAULT_STT_REPO,
    *,
    quantize: int | None = None,
    revision: str | None = None,
    kv_bits: int | None = None,
    info: CheckpointInfo | None = None,
) -> STTModel:
    """Load a model that listens: as ``load_tts``."""
    if info is None:
        info = CheckpointInfo.find(
            name, revision=revision, bits=quantize, kv_bits=kv_bits
        )
    _check_kind(info, "stt_config", "does not transcribe speech", DEFAULT_STT_REPO)
    found, owner = info, model_thread()
    return owner.run(
        lambda: STTModel(
            load_lm(found, bits=quantize),
            load_mimi(found),
            load_tokenizer(found),
            found.config,
            name=found.name,
            owner=owner,
        )
    )


def load_text(
    name: str | Path = DEFAULT_TEXT_REPO,
    *,
    quantize: int | None = None,
    group_size: int | None = None,
    revision: str | None = None,
    kv_bits: int | None = None,
    info: CheckpointInfo | None = None,
) -> TextModel:
    """Load a model that continues texts: as ``load_tts``.

    Args:
        group_size: weights that share a scale, where ``quantize`` quantises.
    """
    if info is None:
        info = CheckpointInfo.find(
            name, revision=revision, bits=quantize, kv_bits=kv_bits
        )
    found, owner = info, model_thread()

    def build() -> TextModel:
        if quantize is None or group_size is None:
            lm = load_lm(found, bits=quantize)
        else:
            lm = load_lm(found)
            quantize_lm(lm, quantize, group_size)
        return TextModel(lm, load_tokenizer(found), name=found.name, owner=owner)

    return owner.run(build)


def _check_kind(info: CheckpointInfo, key: str, lacking: str, example: str) -> None:
    if not info.config.get(key):
        raise ConfigError(
            f"{info.name} is a {info.model_type} model and {lacking}: use one like "
            f"{example}."
        )
