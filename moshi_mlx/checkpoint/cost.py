"""The size of a language model, and how much memory one step of it reads."""

import re
from collections import Counter
from dataclasses import dataclass, field

import mlx.core as mx
import mlx.nn as nn

from ..models.lm import Lm
from ..models.mimi import Mimi
from ..modules.quantized_kv import group_size
from ..modules.transformer import TransformerConfig
from .quantize import nbytes

PART_NAMES = {  # of a model, by the start of a path
    "transformer": "temporal transformer",
    "depformer": "depth transformer",
    "text_emb": "embeddings",
    "audio_embs": "embeddings",
    "text_linear": "text head",
    "extra_heads": "extra heads",
    "condition_provider": "conditions",
    "out_norm": "temporal transformer",
}
CROSS_KEYS = 2 / 3  # of a cross-attention's input projection: runs once per session


@dataclass
class PartCost:
    """One part of a model.

    Attributes:
        parameters: count of numbers, however they are stored; arrays that layers share
            count once, here and in ``nbytes``.
        step_bytes: bytes read in one step of one conversation: whole matrices, single
            rows of tables; a matrix that two steps of a frame share is read twice.
        bits: number of layers by storage ("4 bits", "bfloat16").
    """

    parameters: int = 0
    nbytes: int = 0
    step_bytes: int = 0
    bits: Counter[str] = field(default_factory=Counter)


@dataclass
class Cost:
    """A whole model: its parts, and the keys and values of one conversation.

    Attributes:
        cache_bytes: of a conversation longer than the context; every step reads all of
            it.
    """

    parts: dict[str, PartCost]
    cache_bytes: int

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts.values())

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts.values())

    @property
    def step_bytes(self) -> int:
        """Weights and, for a conversation longer than the context, caches."""
        return self.cache_bytes + sum(p.step_bytes for p in self.parts.values())

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.nbytes / self.parameters


def cost(lm: Lm) -> Cost:
    """Measure a model by the shapes of its arrays, without reading any."""
    parts: dict[str, PartCost] = {}
    seen: set[int] = set()
    read: set[int] = set()
    for path, layer in reversed(lm.named_modules()):
        arrays = {
            name: value
            for name, value in layer.items()
            if isinstance(value, mx.array) and not name.startswith("_")
        }
        kind = PART_NAMES.get(path.split(".")[0])
        if not arrays or kind is None:
            continue
        part = parts.setdefault(kind, PartCost())
        stored = [w for w in arrays.values() if id(w) not in seen]
        part.nbytes += sum(w.nbytes for w in stored)
        part.parameters += sum(
            _numbers(layer, name) for name, w in arrays.items() if id(w) not in seen
        )
        seen.update(id(w) for w in stored)
        if "weight" in arrays and arrays["weight"].ndim == 2:
            part.bits[_storage(layer)] += 1
        # the inputs of all steps on one set of weights are one product
        again = path.endswith("linear_in") and id(arrays.get("weight")) in read
        if kind != "conditions" and not again and not _rests(path, lm):
            shared = path.startswith("transformer.cross_attention.")  # by all layers
            times = lm.cfg.transformer.num_layers if shared else 1
            part.step_bytes += times * _step_bytes(path, layer, arrays)
        read.update(id(w) for w in arrays.values())
    return Cost(parts, cache_bytes(lm.cfg.transformer, lm.out_norm["weight"].dtype))


def _rests(path: str, lm: Lm) -> bool:
    """Whether a layer belongs to a step that conversations never take: one that
    foresees the user's codes. The inputs of all steps are one product."""
    match = re.match(r"depformer\.slices\.(\d+)\.(?!linear_in)", path)
    return match is not None and int(match[1]) >= lm.dep_q


def _numbers(layer: nn.Module, name: str) -> int:
    """Parameters in an array; scales and biases of groups do not count."""
    if "scales" in layer and name in ("scales", "biases"):
        return 0
    w = layer[name]
    return (
        w.size * 32 // layer.bits if "scales" in layer and name == "weight" else w.size
    )


def _storage(layer: nn.Module) -> str:
    if "scales" not in layer:
        return str(layer["weight"].dtype).removeprefix("mlx.core.")
    plain = layer.mode == "affine"
    return f"{layer.bits} bits" if plain else f"{layer.mode} ({layer.bits} bits)"


def _step_bytes(path: str, layer: nn.Module, arrays: dict[str, mx.array]) -> int:
    whole = sum(w.nbytes for w in arrays.values())
    if hasattr(layer, "num_embeddings"):
        return whole // arrays["weight"].shape[0]
    saved = CROSS_KEYS if path.endswith("cross_attention.in_proj") else 0
    return int(whole * (1 - saved))


def cache_bytes(cfg: TransformerConfig, dtype: mx.Dtype) -> int:
    """Bytes of keys and values of a conversation longer than the context."""
    numbers = cfg.num_layers * cfg.context * 2 * cfg.d_model // cfg.kv_repeat
    if cfg.kv_bits is None:
        return numbers * dtype.size
    groups = numbers // group_size(cfg.head_dim, cfg.kv_bits)
    return numbers * cfg.kv_bits // 8 + groups * 2 * dtype.size  # scales and biases


def folded_bytes(mimi: Mimi) -> int:
    """Bytes of the copies that ``FastLayer.fold_scales`` makes."""
    stacks = mimi.encoder_transformer, mimi.decoder_transformer
    layers = [layer for stack in stacks for layer in stack.transformer.layers]
    scaled = [layer for layer in layers if "layer_scale_1" in layer]
    names = [_last_linear(layer.gating) for layer in scaled]
    return sum(
        nbytes(layer.self_attn.out_proj) + nbytes(layer.gating[name])
        for layer, name in zip(scaled, names, strict=True)
    )


def _last_linear(gating: nn.Module) -> str:
    return "linear2" if "linear2" in gating else "linear_out"
