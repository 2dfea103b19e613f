"""``load``: the right engine for any checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, overload

from ..checkpoint.info import CheckpointInfo
from ..errors import ConfigError
from .codec import MimiCodec, load_codec
from .duplex.engine import Moshi
from .duplex.load import load_moshi
from .fetch import found
from .load import load_stt, load_text, load_tts
from .stt import STTModel
from .text import TextModel
from .tts import TTSModel

AnyEngine = Moshi | STTModel | TTSModel | TextModel | MimiCodec

# Names that tell a type checker what comes back; at run time config.json decides.
MoshiName = Literal[
    "demo",
    "kyutai/moshiko-mlx-q4",
    "kyutai/moshiko-mlx-q8",
    "kyutai/moshiko-mlx-bf16",
    "kyutai/moshika-mlx-q4",
    "kyutai/moshika-mlx-q8",
    "kyutai/moshika-mlx-bf16",
    "kyutai/hibiki-1b-mlx-bf16",
    "kyutai/hibiki-2b-mlx-bf16",
]
STTName = Literal[
    "kyutai/stt-1b-en_fr", "kyutai/stt-1b-en_fr-candle", "kyutai/stt-2.6b-en"
]
TTSName = Literal["kyutai/tts-1.6b-en_fr", "kyutai/tts-0.75b-en-public"]
TextName = Literal["kyutai/helium-1-preview-2b-mlx"]
CodecName = Literal["kyutai/mimi"]


@overload
def load(name: MoshiName = "demo", **options: Any) -> Moshi: ...
@overload
def load(name: STTName, **options: Any) -> STTModel: ...
@overload
def load(name: TTSName, **options: Any) -> TTSModel: ...
@overload
def load(name: TextName, **options: Any) -> TextModel: ...
@overload
def load(name: CodecName, **options: Any) -> MimiCodec: ...
@overload
def load(name: str | Path, **options: Any) -> Any: ...
def load(
    name: str | Path = "demo",
    *,
    revision: str | None = None,
    quantize: int | None = None,
    kv_bits: int | None = None,
    adapter: str | Path | Mapping[str, str | Path] | None = None,
    info: CheckpointInfo | None = None,
    **options: Any,
) -> AnyEngine:
    """Load any model; its config.json says what it is.

    Moshi and Hibiki become a ``Moshi``, speech to text an ``STTModel``, text to speech
    a ``TTSModel``, Helium a ``TextModel``, and a codec alone a ``MimiCodec``.

    If you know the kind, use ``load_moshi``, ``load_stt``, ``load_tts``, ``load_text``
    or ``load_codec``: type checkers then know it too, and other kinds are refused.

    Args:
        name: "demo", a folder, or a repository of the hub ("kyutai/moshiko-mlx-q4").
        revision: branch, tag or commit of the repository.
        quantize: bits per weight to quantise an unquantised model to while it loads.
        kv_bits: bits of the key-value cache, 8 or 4; unquantised by default.
        adapter: adapters (LoRA) to use with it: a folder, or a file. Several by name
            for a model that converses: ``{"poet": "folder"}``, see ``load_moshi``.
        info: a checkpoint that was found already, instead of ``name``.
        options: further arguments of that kind's loader.

    Raises: CheckpointError or ConfigError, in one sentence, if the name or the files
        are wrong.
    """
    here = found(
        name,
        info,
        quantize=quantize,
        revision=revision,
        kv_bits=kv_bits,
        adapter=None if isinstance(adapter, Mapping) else adapter,
    )
    if isinstance(adapter, Mapping):
        if here.kind.engine != "duplex":
            raise ConfigError(
                f"{here.name} is a {here.kind.name} model and takes one adapter: name "
                "a folder or a file."
            )
        options["adapter"] = adapter
    if here.kind.engine == "codec":
        return load_codec(info=here, **options)
    loaders = {"stt": load_stt, "tts": load_tts, "text": load_text}
    loader = loaders.get(here.kind.engine, load_moshi)
    return loader(info=here, quantize=quantize, **options)
