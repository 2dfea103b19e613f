"""Normalisation layers by the names that config.json uses."""

import mlx.nn as nn

# epsilon of each kind in PyTorch moshi, modules/transformer.py:create_norm_fn
NORM_EPS = {
    "layer_norm": 1e-5,
    "layer_norm_f32": 1e-8,
    "rms_norm": 1e-5,
    "rms_norm_f32": 1e-8,
}


def make_norm(kind: str, dim: int, eps: float | None = None) -> nn.Module:
    """The norm that config.json calls ``kind``, over the last axis.

    Args:
        kind: "layer_norm", "layer_norm_f32", "rms_norm" or "rms_norm_f32". MLX always
            sums in float32, so the two of a pair differ in epsilon alone.
        eps: overrides the epsilon of the kind.

    Raises: ValueError for any other kind.
    """
    if kind not in NORM_EPS:
        raise ValueError(f"norm {kind!r} is unknown: use one of {', '.join(NORM_EPS)}.")
    eps = NORM_EPS[kind] if eps is None else eps
    return nn.LayerNorm(dim, eps) if kind.startswith("layer") else nn.RMSNorm(dim, eps)
