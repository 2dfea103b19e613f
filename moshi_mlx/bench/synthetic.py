"""Models of any size with random weights: as fast and as large as trained ones."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from ..checkpoint.cost import cost
from ..checkpoint.memory import check_memory
from ..checkpoint.moshi_7b import MOSHI_7B
from ..checkpoint.quantize import Recipe, materialise, quantize
from ..checkpoint.recipes import recipe_named
from ..codec import Codec, NativeCodec
from ..errors import ConfigError
from ..models.config import LmConfig
from ..models.lm import Lm
from ..models.mimi import Mimi, mimi_202407

FULL = "16"  # bits of a model that is not quantised


def _size(
    dim: int, layers: int, depth_dim: int, depth_layers: int, **changes: Any
) -> dict[str, Any]:
    return {
        **MOSHI_7B,
        "dim": dim,
        "num_layers": layers,
        "num_heads": max(1, dim // 128),
        "depformer_dim": depth_dim,
        "depformer_num_layers": depth_layers,
        "depformer_dim_feedforward": int(4.125 * depth_dim),
        "depformer_num_heads": max(1, depth_dim // 64),
        **changes,
    }


# Moshi 7B's shape, narrower; parameters within a tenth of the name.
SIZES = {
    "10M": _size(256, 4, 128, 2, text_card=2000, card=512, context=250),
    "30M": _size(512, 4, 128, 2, text_card=4000, card=1024, context=250),
    "100M": _size(768, 8, 256, 2, text_card=4000, context=750),
    "300M": _size(1024, 12, 512, 4, text_card=8000, context=750),
    "1B": _size(2048, 12, 768, 4, text_card=8000),
    "2B": _size(2560, 18, 1024, 4),
    "7B": dict(MOSHI_7B),
}


def check_size(size: str) -> None:
    """Raise a ConfigError for a size that is not in ``SIZES``."""
    if size not in SIZES:
        raise ConfigError(f"size {size!r} is unknown: use one of {', '.join(SIZES)}.")


def recipe_of(bits: str) -> Recipe | None:
    """The recipe with a number of bits or a name; None is not quantised.

    Raises: ConfigError if it is neither.
    """
    if bits == FULL:
        return None
    return recipe_named(f"q{bits}" if bits.isdigit() else bits)


def synthetic_lm(size: str, bits: str = FULL, kv_bits: int | None = None) -> Lm:
    """A random model of a size, in the types that this machine computes with.

    Args:
        bits: "16", or a recipe ("q4", "mixed"), or a number of bits.
        kv_bits: bits of the key-value cache; None for unquantised.

    Raises: ConfigError for an unknown size, CheckpointError for one that does not fit.
    """
    check_size(size)
    recipe = recipe_of(bits)
    lm = Lm(LmConfig.from_config_dict(SIZES[size]).with_kv_bits(kv_bits))
    cpu = mx.default_device().type == mx.DeviceType.cpu
    lm.set_dtype(mx.float32 if cpu else mx.bfloat16)
    if recipe is None:
        check_memory(cost(lm).nbytes, f"the {size} model", "measure it with --bits 4")
        materialise(lm)
        return lm
    narrow = 0.35 if bits in ("2", "3", "4", "q4", "mixed") else 0.55  # at most, of 16
    check_memory(
        int(narrow * 2 * cost(lm).parameters), f"the {size} model", "take a smaller one"
    )
    quantize(lm, recipe=recipe)
    return lm


def synthetic_codec(lm: Lm) -> Callable[[int], Codec]:
    """Makes random codecs of the released shape; all share their weights."""
    mimi = Mimi(mimi_202407(max(lm.dep_q, lm.cfg.other_codebooks, 1)))
    for book in _codebooks(mimi):
        book.embedding_sum = mx.random.normal(book.embedding_sum.shape)
        book.cluster_usage = mx.ones(book.cluster_usage.shape)
    materialise(mimi)
    return lambda batch: NativeCodec(mimi, batch)


def _codebooks(mimi: Mimi) -> list[Any]:
    return [m for m in mimi.modules() if "embedding_sum" in m]
