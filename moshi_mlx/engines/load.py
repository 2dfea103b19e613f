"""Load the models that do not converse: text to speech, speech to text, and text.

Each computes on the process's model thread, so any thread may use it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..checkpoint.build import footprint, load_lm, load_mimi, load_tokenizer
from ..checkpoint.info import CheckpointInfo
from ..checkpoint.kinds import DEFAULT_STT_REPO, DEFAULT_TEXT_REPO, DEFAULT_TTS_REPO
from ..checkpoint.quantize import quantize as quantize_lm
from ..models.lm import Lm
from .base import BaseEngine
from .fetch import fetched, found
from .owner import model_thread
from .residency import keep_resident
from .stt import STTModel
from .text import TextModel
from .tts import TTSModel

M = TypeVar("M", bound=BaseEngine)


def load_tts(
    name: str | Path = DEFAULT_TTS_REPO,
    *,
    quantize: int | None = None,
    revision: str | None = None,
    kv_bits: int | None = None,
    adapter: str | Path | None = None,
    info: CheckpointInfo | None = None,
    **settings: Any,
) -> TTSModel:
    """Load a model that speaks.

    Args:
        name: a folder, or a repository of the hub.
        quantize: bits per weight to quantise an unquantised model to while it loads.
        kv_bits: bits of the key-value cache, 8 or 4; unquantised by default.
        adapter: adapters (LoRA) to use with it: a folder, or a file.
        info: a checkpoint that was found already, instead of ``name``.
        settings: of ``TTSModel``: ``temp``, ``n_q``, ``voice_repo`` ... A model with
            voices of its own looks for them in its folder by default; the temperature
            is that of its config's ``lm_gen_config``, if it has one.

    Raises: CheckpointError or ConfigError, in one sentence, if the files are wrong.
    """
    here = found(
        *(name, info),
        quantize=quantize,
        revision=revision,
        kv_bits=kv_bits,
        adapter=adapter,
        kind="tts",
    )
    here.kind.check("speaks", here.name)
    if here.own_voices is not None:
        settings = {"voice_repo": here.own_voices} | settings
    if "temp" in here.lm_gen_config:
        settings = {"temp": float(here.lm_gen_config["temp"])} | settings
    owner = model_thread()
    return _built(
        here,
        lambda: load_lm(here, bits=quantize),
        lambda lm: TTSModel(
            lm,
            load_mimi(here),
            load_tokenizer(here),  # type: ignore[arg-type]
            raw_config=here.config,
            name=here.name,
            owner=owner,
            **settings,
        ),
    )


def load_stt(
    name: str | Path = DEFAULT_STT_REPO,
    *,
    quantize: int | None = None,
    revision: str | None = None,
    kv_bits: int | None = None,
    adapter: str | Path | None = None,
    info: CheckpointInfo | None = None,
) -> STTModel:
    """Load a model that transcribes; the arguments are those of ``load_tts``."""
    here = found(
        *(name, info),
        quantize=quantize,
        revision=revision,
        kv_bits=kv_bits,
        adapter=adapter,
        kind="stt",
    )
    here.kind.check("transcribes", here.name)
    owner = model_thread()
    return _built(
        here,
        lambda: load_lm(here, bits=quantize),
        lambda lm: STTModel(
            *(lm, load_mimi(here), load_tokenizer(here), here.config),
            name=here.name,
            owner=owner,
        ),
    )


def load_text(
    name: str | Path = DEFAULT_TEXT_REPO,
    *,
    quantize: int | None = None,
    group_size: int | None = None,
    revision: str | None = None,
    kv_bits: int | None = None,
    adapter: str | Path | None = None,
    info: CheckpointInfo | None = None,
) -> TextModel:
    """Load a model that continues texts; see ``load_tts`` for the other arguments.

    Args:
        group_size: number of weights that share a scale, with ``quantize``.
    """
    here = found(
        name,
        info,
        quantize=quantize,
        revision=revision,
        kv_bits=kv_bits,
        adapter=adapter,
    )
    here.kind.check("writes", here.name)
    owner = model_thread()

    def lm_of_groups() -> Lm:
        if quantize is None or group_size is None:
            return load_lm(here, bits=quantize)
        lm = load_lm(here)
        quantize_lm(lm, quantize, group_size)
        return lm

    return _built(
        here,
        lm_of_groups,
        lambda lm: TextModel(lm, load_tokenizer(here), name=here.name, owner=owner),
    )


def _built(
    info: CheckpointInfo, open_lm: Callable[[], Lm], wrap: Callable[[Lm], M]
) -> M:
    """An engine made on the model thread; its memory stays resident while it exists."""
    fetched(info)

    def build() -> M:
        lm = open_lm()
        engine = wrap(lm)
        engine.residency = keep_resident(engine, footprint(info, lm), info.name)
        return engine

    return model_thread().run(build)
