"""Random stacks of any configuration, and waves to put into them."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_unflatten

from moshi_mlx.modules.transformer import (
    Transformer,
    TransformerConfig,
)
from tests.tiny import parameters

FIELDS: dict[str, Any] = {  # the 21 fields of moshi_mlx 0.3.0
    "d_model": 16,
    "num_heads": 2,
    "num_layers": 2,
    "causal": True,
    "norm_first": True,
    "bias_ff": False,
    "bias_attn": False,
    "layer_scale": None,
    "positional_embedding": "rope",
    "use_conv_block": False,
    "cross_attention": False,
    "conv_kernel_size": 3,
    "use_conv_bias": True,
    "gating": True,
    "norm": "rms_norm",
    "context": 6,
    "max_period": 10000,
    "max_seq_len": 4096,
    "kv_repeat": 1,
    "dim_feedforward": 48,
    "conv_layout": False,
}


def config(**changes: Any) -> TransformerConfig:
    return TransformerConfig(**{**FIELDS, **changes})


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter random; factors around 1, so that none can be forgotten."""
    rng = np.random.default_rng(seed)
    drawn = []
    for name, value in parameters(module).items():
        noise = rng.standard_normal(value.shape).astype(np.float32)
        factor = value.ndim == 1 and not name.endswith("bias")
        scale = 0.3 if value.ndim == 1 else value.shape[-1] ** -0.5
        drawn.append((name, mx.array(factor + scale * noise)))
    module.update(tree_unflatten(drawn))
    return module


def stack(seed: int = 0, **changes: Any) -> Transformer:
    module = randomised(Transformer(config(**changes)), seed)
    assert isinstance(module, Transformer)
    return module


def wave(b: int, t: int, d: int = 16, seed: int = 0) -> mx.array:
    rng = np.random.default_rng(seed)
    return mx.array(rng.standard_normal((b, t, d)).astype(np.float32))
