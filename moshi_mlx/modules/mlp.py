"""Feed-forward blocks: gated, and plain."""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from .transformer_config import TransformerConfig

ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "silu": lambda x: x * mx.sigmoid(x),
    "gelu": lambda x: x * (mx.erf(x * 0.5**0.5) + 1) * 0.5,
    "sigmoid": mx.sigmoid,
    "tanh": mx.tanh,
    "relu": lambda x: mx.maximum(x, 0),
    "leaky_relu": lambda x: mx.maximum(x, 0.01 * x),
    "elu": lambda x: mx.where(x > 0, x, mx.expm1(mx.minimum(x, 0))),
    "mish": lambda x: x * mx.tanh(mx.logaddexp(x, 0)),
    "softsign": lambda x: x / (1 + mx.abs(x)),
    "identity": lambda x: x,
}


class MlpGating(nn.Module):
    """``linear_out(activation(first half) * second half)`` of ``linear_in(x)``.

    Shape: ``[..., D] -> [..., D]``.
    """

    def __init__(self, cfg: TransformerConfig):
        super().__init__()
        hidden = cfg.gated_width
        self.linear_in = nn.Linear(cfg.d_model, 2 * hidden, bias=cfg.bias_ff)
        self.linear_out = nn.Linear(hidden, cfg.d_model, bias=cfg.bias_ff)
        self.activation = "silu" if cfg.gating is True else str(cfg.gating)
        if self.activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(
                f"gating {self.activation!r} is unknown: use one of {known}."
            )

    def __call__(self, x: mx.array) -> mx.array:
        gate, x = mx.split(self.linear_in(x), 2, axis=-1)
        return self.linear_out(ACTIVATIONS[self.activation](gate) * x)


class MlpNoGating(nn.Module):
    """``linear2(gelu(linear1(x)))`` with the exact GELU.

    Shape: ``[..., D] -> [..., D]``.
    """

    def __init__(self, cfg: TransformerConfig):
        super().__init__()
        self.linear1 = nn.Linear(cfg.d_model, cfg.dim_feedforward, bias=cfg.bias_ff)
        self.linear2 = nn.Linear(cfg.dim_feedforward, cfg.d_model, bias=cfg.bias_ff)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear2(ACTIVATIONS["gelu"](self.linear1(x)))


def make_mlp(cfg: TransformerConfig) -> MlpGating | MlpNoGating:
    """The feed-forward block that the config asks for."""
    return MlpNoGating(cfg) if cfg.gating in (False, "none") else MlpGating(cfg)
