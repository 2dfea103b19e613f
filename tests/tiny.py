"""Small random models, in the names and shapes of PyTorch moshi, and how to compare.

A model is described by a config.json dictionary, so that the same dictionary can drive
the package and the oracles. Every parameter is random, norms and scales included:
a test that forgets one of them must fail.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from moshi_mlx.models import Lm, LmConfig, LmGen
from moshi_mlx.models.keys import pytorch_rules
from moshi_mlx.utils.remap import remap
from moshi_mlx.utils.sampling import Sampler

DATA = Path(__file__).parent / "data"
Config = dict[str, Any]
Weights = dict[str, mx.array]

# Every width is a multiple of 32, so that nn.quantize takes it at its smallest group.
BASE: Config = {
    "dim": 32,
    "text_card": 40,
    "existing_text_padding_id": 3,
    "n_q": 6,
    "dep_q": 3,
    "card": 24,
    "num_heads": 4,
    "num_layers": 2,
    "hidden_scale": 4.5,
    "causal": True,
    "layer_scale": None,
    "context": 7,
    "max_period": 10000,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "depformer_dim": 32,
    "depformer_dim_feedforward": 96,
    "depformer_num_heads": 2,
    "depformer_num_layers": 2,
    "depformer_multi_linear": True,
    "depformer_weights_per_step": True,
    "depformer_pos_emb": "none",
    "delays": [0, 0, 1, 2, 0, 1, 2],
}
# What adds conditions: one summed from a table, one of an array that is attended to.
CONDITIONED: Config = {
    "conditioners": {
        "mood": {
            "type": "lut",
            "lut": {
                "n_bins": 3,
                "dim": 4,
                "tokenizer": "noop",
                "possible_values": ["sad", "glad"],
            },
        },
        "voice": {"type": "tensor", "tensor": {"dim": 5}},
    },
    "fuser": {
        "sum": ["mood"],
        "cross": ["voice"],
        "cross_attention_pos_emb": True,
        "cross_attention_pos_emb_scale": 1,
    },
    "cross_attention": True,
}
# The least model that has every stage: for tests of very many steps.
MINIMAL: Config = {
    "dim": 8,
    "num_heads": 1,
    "num_layers": 1,
    "hidden_scale": 3,
    "n_q": 2,
    "dep_q": 1,
    "depformer_dim": 8,
    "depformer_num_heads": 1,
    "depformer_num_layers": 1,
    "depformer_dim_feedforward": 24,
    "delays": [0, 0, 1],
}


def number(x: mx.array) -> float:
    """The value of an array that holds one real number."""
    value = x.item()
    assert isinstance(value, int | float)
    return value


def parameters(module: nn.Module) -> dict[str, mx.array]:
    """Every parameter by its whole name."""
    flat: Any = tree_flatten(module.parameters())
    return dict(flat)


def assert_close(actual: mx.array, expected: mx.array, tol: float = 1e-5) -> None:
    """Largest error, relative to the largest expected value."""
    assert actual.shape == expected.shape
    scale = number(mx.abs(expected).max())
    assert scale > 1e-3, "expected output is ~0: this comparison proves nothing"
    error = number(mx.abs(actual - expected).max())
    assert error <= tol * scale, f"error {error / scale:.2e} of {tol:.0e} allowed"


def norm_names(kind: str, name: str, dim: int) -> dict[str, tuple[int, ...]]:
    if kind.startswith("rms"):
        return {f"{name}.alpha": (1, 1, dim)}
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def gated_width(dim: int, feedforward: int) -> int:
    """PyTorch's rule for the width inside a gated block."""
    return 21 * dim // 8 if feedforward == 4 * dim else 2 * feedforward // 3


def weight_schedule(c: Config) -> list[int]:
    """Which set of weights each step of the depth transformer uses."""
    if not c.get("depformer_weights_per_step"):
        return [0] * c["dep_q"]
    return c.get("depformer_weights_per_step_schedule") or list(range(c["dep_q"]))


def input_schedule(c: Config) -> list[int]:
    """Which input projection each step of the depth transformer uses."""
    if not c.get("depformer_multi_linear"):
        return [0] * c["dep_q"]
    return c.get("depformer_weights_per_step_schedule") or list(range(c["dep_q"]))


def feedforward_widths(c: Config) -> list[int]:
    """Nominal inner width of each weight set of the depth transformer."""
    given = c.get("depformer_dim_feedforward")
    if isinstance(given, list):
        return given
    if given is None:
        given = int(c["hidden_scale"] * c["depformer_dim"])
    return [given] * (max(weight_schedule(c), default=0) + 1)


def _stack_shapes(
    prefix: str, c: Config, dim: int, widths: Sequence[int], sets: int, **own: Any
) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for n in range(own["num_layers"]):
        layer = f"{prefix}.layers.{n}"
        kv = dim // own["kv_repeat"]
        shapes[f"{layer}.self_attn.in_proj_weight"] = (sets * (dim + 2 * kv), dim)
        shapes[f"{layer}.self_attn.out_proj.weight"] = (sets * dim, dim)
        for name in ("norm1", "norm2"):
            shapes |= norm_names(c["norm"], f"{layer}.{name}", dim)
        if own["gating"] == "none":
            shapes[f"{layer}.linear1.weight"] = (widths[0], dim)
            shapes[f"{layer}.linear2.weight"] = (dim, widths[0])
        else:
            for s, width in enumerate(widths):
                inner = gated_width(dim, width)
                gating = f"{layer}.gating.{s}" if own["per_step"] else f"{layer}.gating"
                shapes[f"{gating}.linear_in.weight"] = (2 * inner, dim)
                shapes[f"{gating}.linear_out.weight"] = (dim, inner)
        scales = ["layer_scale_1", "layer_scale_2"]
        if own["cross_attention"]:
            shapes[f"{layer}.cross_attention.in_proj_weight"] = (3 * dim, dim)
            shapes[f"{layer}.cross_attention.out_proj.weight"] = (dim, dim)
            shapes |= norm_names("layer_norm", f"{layer}.norm_cross", dim)
            scales.append("layer_scale_cross")
        if own["layer_scale"] is not None:
            shapes |= {f"{layer}.{scale}.scale": (dim,) for scale in scales}
    return shapes


def _table_shapes(
    c: Config, name: str, rows: int, dim: int, low: int | None, demux: bool
) -> dict[str, tuple[int, ...]]:
    width = low or dim
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": (rows, width)}
    if low:
        shapes[f"{name}.low_rank.weight"] = (dim, low)
    if demux:
        shapes |= {f"{name}.out{i}.weight": (dim, width) for i in (1, 2)}
    if c.get("norm_emb"):
        shapes |= norm_names("layer_norm", f"{name}.norm", width)
    return shapes


def _head_shapes(
    c: Config, name: str, rows: int, dim: int
) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": (rows, dim)}
    return shapes | ({f"{name}.bias": (rows,)} if c.get("bias_proj") else {})


def pytorch_shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a released PyTorch file for this config.json (facts: 3.1)."""
    dim, dep, q = c["dim"], c["depformer_dim"], c["dep_q"]
    text, audio = c["text_card"] + 1, c["card"] + 1
    demux = c.get("demux_second_stream", False)
    common = {
        "gating": c["gating"],
        "kv_repeat": c.get("kv_repeat", 1),
        "layer_scale": c.get("layer_scale"),
        "num_layers": c["num_layers"],
        "cross_attention": c.get("cross_attention", False),
        "per_step": False,
    }
    shapes = _table_shapes(c, "text_emb", text, dim, None, demux)
    for k in range(c["n_q"]):
        shapes |= _table_shapes(c, f"emb.{k}", audio, dim, None, False)
    text_out = c.get("text_card_out") or c["text_card"]
    shapes |= _head_shapes(c, "text_linear", text_out, dim)
    shapes |= norm_names(c["norm"], "out_norm", dim)
    width = int(c["hidden_scale"] * dim)
    shapes |= _stack_shapes("transformer", c, dim, [width], 1, **common)
    for k in range(c.get("extra_heads_num_heads", 0)):
        shapes[f"extra_heads.{k}.weight"] = (c.get("extra_heads_dim", 6), dim)
    for name, entry in c.get("conditioners", {}).items():
        prefix, kind = f"condition_provider.conditioners.{name}", entry["type"]
        inner = entry[kind]["dim"]
        shapes[f"{prefix}.output_proj.weight"] = (dim, inner)
        shapes[f"{prefix}.learnt_padding"] = (1, 1, dim)
        if kind == "lut":
            shapes[f"{prefix}.embed.weight"] = (entry[kind]["n_bins"] + 1, inner)
    if not q:
        return shapes
    own = {
        name: c.get(f"depformer_{name}", default) for name, default in common.items()
    }
    own |= {
        "cross_attention": False,
        "per_step": c.get("depformer_weights_per_step", False),
    }
    sets = max(weight_schedule(c)) + 1
    shapes |= _stack_shapes("depformer", c, dep, feedforward_widths(c), sets, **own)
    for s in range(max(input_schedule(c)) + 1):
        shapes[f"depformer_in.{s}.weight"] = (dep, dim)
    low = c.get("depformer_low_rank_embeddings")
    shapes |= _table_shapes(c, "depformer_text_emb", text, dep, low, demux)
    for k in range(q - 1):
        shapes |= _table_shapes(c, f"depformer_emb.{k}", audio, dep, low, False)
    for k in range(q):
        shapes |= _head_shapes(c, f"linears.{k}", c["card"], dep)
        if c.get("depformer_norm"):
            shapes |= norm_names(c["depformer_norm"], f"depformer_norms.{k}", dep)
    return shapes


def pytorch_weights(c: Config, seed: int = 0) -> Weights:
    """Random weights for ``pytorch_shapes``, large enough that every token matters."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in pytorch_shapes(c).items():
        values = rng.standard_normal(shape)
        if name.endswith((".alpha", ".scale")) or (
            ".norm" in name and "weight" in name
        ):
            values = 1 + 0.3 * values
        elif name.endswith(".bias") or "padding" in name:
            values = 0.3 * values
        else:
            values = values * 1.5 / math.sqrt(shape[-1])
        weights[name] = mx.array(values.astype(np.float32))
    return weights


def load(c: Config, weights: Weights) -> Lm:
    """The package's model of a config with PyTorch-named weights in it."""
    cfg = LmConfig.from_config_dict(c)
    lm = Lm(cfg)
    renamed = remap(weights, pytorch_rules(cfg), "tiny model")
    lm.load_weights(list(renamed.items()), strict=True)
    return lm


def lm(seed: int = 0, **changes: Any) -> Lm:
    """A small random model: ``BASE`` with changes."""
    c = {**BASE, **changes}
    return load(c, pytorch_weights(c, seed))


def codes(c: Config, b: int, t: int, seed: int = 0, missing: float = 0) -> mx.array:
    """Random aligned streams ``[B, 1 + n_q, T]``; ``missing`` is the share of -1."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, c["card"], (b, 1 + c["n_q"], t))
    words = c["text_card"]
    if c.get("demux_second_stream"):
        words *= c["text_card"] + 1
    found[:, 0] = rng.integers(0, words, (b, t))
    found[rng.random(found.shape) < missing] = -1
    return mx.array(found.astype(np.int32))


def heard(model: Lm, b: int, t: int, seed: int = 0) -> mx.array:
    """The other side's frames ``[B, other, T]``."""
    rng = np.random.default_rng(seed)
    shape = (b, model.cfg.other_codebooks, t)
    return mx.array(rng.integers(0, model.cfg.audio_vocab_size - 1, shape), mx.int32)


GREEDY = Sampler(temp=0)


def greedy(model: Lm, **options: Any) -> LmGen:
    """A generator that always takes the likeliest token."""
    options = {"text_sampler": GREEDY, "audio_sampler": GREEDY, **options}
    return LmGen(model, **options)


def run(gen: LmGen, frames: mx.array, *conditions: Any) -> np.ndarray:
    """Step through frames ``[B, other, T]``; text and audio of each call.

    Returns ``[B, 1 + own, T]``: text as sampled, audio as completed (-2 before).
    """
    columns = []
    for t in range(frames.shape[2]):
        text, _ = gen.step(frames[:, :, t], *conditions)
        audio = gen.last_audio_tokens()
        if audio is None:
            audio = mx.full((gen.batch_size, gen.main_codebooks), -2)
        columns.append(mx.concatenate([text, audio], axis=1))
    return np.array(mx.stack(columns, axis=2))
