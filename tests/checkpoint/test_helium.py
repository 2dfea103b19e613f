"""Helium in the layout of the transformers library, and in MLX's."""

import math

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.helium import HELIUM_2B, helium_config, rename_helium
from moshi_mlx.checkpoint.save import save
from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.models.lm import Lm
from tests.checkpoint.folders import assert_equal, load, tensors, write
from tests.tiny import Config, Weights, assert_close

CONFIG: Config = {
    "model_type": "helium",
    "architectures": ["HeliumForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": 16,
    "rope_theta": 100.0,
    "rms_norm_eps": 1e-6,
    "vocab_size": 50,
}


def weights() -> Weights:
    """Random tensors of ``CONFIG`` under the library's names."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (50, 32),
        "model.norm.weight": (32,),
        "lm_head.weight": (50, 32),
        "model.layers.0.self_attn.rotary_emb.inv_freq": (4,),
    }
    for n in range(2):
        layer = f"model.layers.{n}"
        shapes |= {
            f"{layer}.self_attn.q_proj.weight": (32, 32),
            f"{layer}.self_attn.k_proj.weight": (16, 32),
            f"{layer}.self_attn.v_proj.weight": (16, 32),
            f"{layer}.self_attn.o_proj.weight": (32, 32),
            f"{layer}.mlp.gate_proj.weight": (48, 32),
            f"{layer}.mlp.up_proj.weight": (48, 32),
            f"{layer}.mlp.down_proj.weight": (32, 48),
            f"{layer}.input_layernorm.weight": (32,),
            f"{layer}.post_attention_layernorm.weight": (32,),
        }
    rng = np.random.default_rng(0)
    return {
        name: mx.array((rng.standard_normal(shape) / 3).astype(np.float32))
        for name, shape in shapes.items()
    }


def library_logits(w: dict[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    """The network as the library writes it, in NumPy: separate projections."""
    heads, kv, width = 4, 2, 8

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * w[name]

    def rotated(x: np.ndarray) -> np.ndarray:
        angle = np.arange(len(x))[:, None] * 100.0 ** (-np.arange(0, width, 2) / width)
        turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)[:, None]
        return np.stack([turned.real, turned.imag], -1).reshape(x.shape)

    x = w["model.embed_tokens.weight"][tokens]
    t = len(tokens)
    for n in range(2):
        p = f"model.layers.{n}."
        y = norm(x, p + "input_layernorm.weight")
        q, k, v = (
            (y @ w[f"{p}self_attn.{name}_proj.weight"].T).reshape(t, h, width)
            for name, h in (("q", heads), ("k", kv), ("v", kv))
        )
        q, k = rotated(q), np.repeat(rotated(k), heads // kv, axis=1)
        scores = np.einsum("thd,shd->hts", q, k) / math.sqrt(width)
        scores[:, np.triu(np.ones((t, t), bool), 1)] = -np.inf
        weight = np.exp(scores - scores.max(-1, keepdims=True))
        weight /= weight.sum(-1, keepdims=True)
        y = np.einsum("hts,shd->thd", weight, np.repeat(v, heads // kv, axis=1))
        x = x + y.reshape(t, -1) @ w[f"{p}self_attn.o_proj.weight"].T
        y = norm(x, p + "post_attention_layernorm.weight")
        gate = y @ w[f"{p}mlp.gate_proj.weight"].T
        y = gate / (1 + np.exp(-gate)) * (y @ w[f"{p}mlp.up_proj.weight"].T)
        x = x + y @ w[f"{p}mlp.down_proj.weight"].T
    return norm(x, "model.norm.weight") @ w["lm_head.weight"].T


def test_the_library_s_layout_computes_the_library_s_logits(tmp_path):
    released = weights()
    lm = load(write(tmp_path, released, CONFIG))
    tokens = [1, 7, 3, 49, 0, 7, 12]
    expected = library_logits({k: np.array(w) for k, w in released.items()}, tokens)
    assert_close(lm(mx.array([tokens]))[0], mx.array(expected.astype(np.float32)))


def test_tied_heads_are_shared():
    released = weights()
    del released["lm_head.weight"]
    renamed = rename_helium(released, "x")
    assert renamed["text_linear.weight"] is renamed["text_emb.weight"]


@pytest.mark.parametrize("bits", [None, 4])
def test_helium_saves_and_loads_equal(tmp_path, bits):
    lm = load(write(tmp_path / "source", weights(), CONFIG), bits=bits)
    assert_equal(load(save(tmp_path / "out", lm, CONFIG)), lm)


def test_a_missing_part_is_named():
    released = weights()
    del released["model.layers.1.self_attn.v_proj.weight"]
    with pytest.raises(CheckpointError, match=r"layers\.1\.self_attn\.[kq]_proj"):
        rename_helium(released, "x")


def test_the_released_helium_has_the_published_shapes():
    cfg = helium_config(HELIUM_2B)
    cfg.transformer.num_layers = 1
    shapes = {name: w.shape for name, w in tensors(Lm(cfg)).items()}
    assert shapes["text_emb.weight"] == shapes["text_linear.weight"] == (48000, 2560)
    assert shapes["transformer.layers.0.gating.linear_in.weight"] == (14080, 2560)
    assert shapes["transformer.layers.0.self_attn.in_proj.weight"] == (7680, 2560)


def test_an_odd_head_width_is_refused():
    with pytest.raises(ConfigError, match="head_dim 64 with 20 heads in 2560"):
        helium_config({**HELIUM_2B, "head_dim": 64})
