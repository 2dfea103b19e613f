"""A small random codec, every parameter random, and the golden one."""

import json
from typing import Any

import mlx.core as mx

from moshi_mlx.models.mimi import Mimi, MimiConfig
from tests.tiny import DATA, parameters

GOLDEN = DATA / "mimi"
RELEASED_NAMES = GOLDEN / "mimi_released_names.safetensors"
SPLIT_NAMES = DATA / "tts" / "mimi.safetensors"  # the same weights
FRAME = 1920
SIZE = 8  # samples a frame of the tiny codec

# 8 samples a frame, a window of 6 latents (3 frames), everything else as in Mimi.
TINY: dict[str, Any] = {
    "channels": 1,
    "sample_rate": 800,
    "frame_rate": 100,
    "seanet": {
        "channels": 1,
        "dimension": 12,
        "causal": True,
        "n_filters": 3,
        "n_residual_layers": 1,
        "compress": 1,
        "kernel_size": 5,
        "residual_kernel_size": 3,
        "last_kernel_size": 3,
        "pad_mode": "constant",
        "ratios": [2, 2],
    },
    "quantizer": {
        "dimension": 6,
        "n_q": 4,
        "bins": 16,
        "input_dimension": 12,
        "output_dimension": 12,
    },
    "transformer": {
        "d_model": 12,
        "num_heads": 2,
        "num_layers": 2,
        "causal": True,
        "layer_scale": 0.3,
        "context": 6,
        "conv_layout": True,
        "positional_embedding": "rope",
        "dim_feedforward": 24,
        "input_dimension": 12,
        "output_dimensions": [12],
    },
}


def changed(**parts: dict[str, Any]) -> dict[str, Any]:
    """``TINY`` with other values in some of its parts."""
    return {**TINY, **{k: {**TINY[k], **v} for k, v in parts.items()}}


def random_mimi(data: dict[str, Any] = TINY, num_codebooks: int | None = None) -> Mimi:
    """A codec whose every parameter counts: attention, biases, norms, codebooks."""
    mimi = Mimi(MimiConfig.from_config_dict(data, num_codebooks))
    weights = {}
    for name, w in parameters(mimi).items():
        if name.endswith("cluster_usage"):
            weights[name] = mx.random.uniform(0.5, 3.0, w.shape)
        elif name.endswith(("norm1.weight", "norm2.weight", "scale")):
            weights[name] = mx.random.uniform(0.5, 1.5, w.shape)
        elif w.ndim == 1:
            weights[name] = 0.3 * mx.random.normal(w.shape)
        else:
            fan_in = w[0].size if w.shape[0] > 1 else w.shape[1]
            weights[name] = mx.random.normal(w.shape) * (1.5 / fan_in) ** 0.5
    return mimi.load_weights(list(weights.items()))


def golden_mimi(num_codebooks: int | None = None) -> Mimi:
    """The codec of the golden data."""
    data = json.loads((GOLDEN / "mimi_config.json").read_text())
    mimi = Mimi(MimiConfig.from_config_dict(data, num_codebooks))
    return mimi.load_pytorch_weights(RELEASED_NAMES)


def golden_io() -> dict[str, mx.array]:
    """``pcm``, and ``latent``, ``codes``, ``decoded``, ``decoded_half`` of it."""
    arrays = mx.load(str(GOLDEN / "io.safetensors"))
    assert isinstance(arrays, dict)
    return arrays


def noise(frames: int, batch: int = 1) -> mx.array:
    return mx.random.normal((batch, 1, frames * SIZE))
