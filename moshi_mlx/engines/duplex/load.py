"""Load a model to talk with."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import mlx.core as mx

from ...checkpoint.adapters import local_adapter
from ...checkpoint.build import (
    footprint,
    load_image_encoder,
    load_lm,
    load_mimi,
    load_tokenizer,
)
from ...checkpoint.exchange import adapters_of
from ...checkpoint.info import CheckpointInfo
from ...checkpoint.row_adapters import attach_rows
from ...codec import check_engine, make_codec
from ...errors import ConfigError
from ...models.mimi_precision import set_decoder_dtype
from ..fetch import fetched, found
from ..owner import model_thread
from ..residency import IDLE_S, can_wire, keep_resident
from .engine import Moshi


def load_moshi(
    name: str | Path = "demo",
    *,
    codec: str = "native",
    quantize: int | None = None,
    revision: str | None = None,
    kv_bits: int | None = None,
    adapter: str | Path | Mapping[str, str | Path] | None = None,
    codec_dtype: str = "float32",
    info: CheckpointInfo | None = None,
) -> Moshi:
    """Load a model that listens and answers: Moshi, MoshiVis, Hibiki.

    It computes on the process's model thread, so any thread may use it.

    Args:
        name: "demo", a folder, or a repository of the hub ("kyutai/moshiko-mlx-q4").
        codec: "native" (MLX) or "rust" (rustymimi, on the CPU).
        quantize: bits to quantise an unquantised model to while loading.
        revision: branch, tag or commit of the repository.
        kv_bits: 8 or 4: keep the conversations' keys and values in this many bits.
        adapter: adapters (LoRA) to use with it: a folder, or a file. Several by name,
            from which each conversation chooses one or none: ``{"poet": "folder"}``.
        codec_dtype: "float16" decodes sound in 16 bits; hearing stays exact.
        info: a checkpoint that was found already, instead of ``name``.

    Raises: CheckpointError or ConfigError, in one sentence, if the name or the files
        are wrong.
    """
    decoder_dtype = _decoder_dtype(codec, codec_dtype)  # before anything is fetched
    named = dict(adapter) if isinstance(adapter, Mapping) else {}
    here = fetched(
        found(
            name,
            info,
            quantize=quantize,
            revision=revision,
            kv_bits=kv_bits,
            adapter=None if isinstance(adapter, Mapping) else adapter,
        )
    )
    files = [local_adapter(path) for path in named.values()]
    owner = model_thread()

    def build() -> Moshi:
        tokenizer = load_tokenizer(here)
        lm = load_lm(here, bits=quantize)
        if files:
            attach_rows(lm, [adapters_of(here, path) for path in files])
        if codec == "native":
            mimi = load_mimi(here, here.num_codebooks)
            if decoder_dtype != mx.float32:
                set_decoder_dtype(mimi, decoder_dtype)
            make = partial(make_codec, "native", mimi=mimi)
        else:
            weights, count = here.mimi_weights, here.num_codebooks
            make = partial(make_codec, codec, weights=weights, num_codebooks=count)
        encoder = load_image_encoder(here)
        moshi = Moshi(here, lm, tokenizer, make, owner, encoder, list(named))
        moshi.residency = keep_resident(moshi, footprint(here, lm), here.name)
        if can_wire():
            moshi.stay_awake(IDLE_S)
        return moshi

    return owner.run(build)


def _decoder_dtype(codec: str, name: str) -> mx.Dtype:
    """Raises: ConfigError for an unknown codec, or a type it does not compute in."""
    check_engine(codec)
    dtypes = {"float32": mx.float32, "float16": mx.float16}
    if name not in dtypes:
        raise ConfigError(
            f"codec_dtype={name!r} is unknown: choose float32 or float16 (bfloat16 is "
            "too coarse for sound)."
        )
    if codec != "native" and name != "float32":
        raise ConfigError(f"the {codec} codec computes in float32 only: use native.")
    return dtypes[name]
