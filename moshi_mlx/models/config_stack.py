"""One transformer stack as config.json describes it, by PyTorch moshi's rules."""

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..modules.norm import NORM_EPS
from ..modules.transformer import ACTIVATIONS, POSITIONS, TransformerConfig
from .schema import shortened


def required(data: Mapping[str, Any], key: str) -> Any:
    """A value that is required."""
    if data.get(key) is None:
        raise ConfigError(f"config.json has no {key!r}: is it a Moshi config?")
    return data[key]


def choice(name: str, value: Any, known: Any) -> Any:
    """A value that must be one of ``known``."""
    if value not in known:
        raise ConfigError(
            f"config has {name} {shortened(value)}: supported are {list(known)}."
        )
    return value


def gated_dim(dim: int, feedforward: int) -> int:
    """PyTorch moshi's width inside a gated block (modules/gating.py)."""
    return 21 * dim // 8 if feedforward == 4 * dim else 2 * feedforward // 3


def stack_config(data: Mapping[str, Any], **own: Any) -> TransformerConfig:
    """A stack as config.json describes it, with explicit widths and epsilons."""
    gating = choice("gating", own["gating"], ["none", *ACTIVATIONS])
    norm = choice("norm", data.get("norm", "layer_norm"), NORM_EPS)
    choice("positional_embedding", own["positional_embedding"], POSITIONS)
    if not data.get("causal", True):
        raise ConfigError("config has causal false: only causal models can stream.")
    width, dim = own["dim_feedforward"], own["d_model"]
    if gating != "none" and not gated_dim(dim, width):
        raise ConfigError(
            f"config makes a gated layer of no width from {width} in {dim}: widen it."
        )
    cfg = TransformerConfig(
        causal=True,
        norm_first=True,
        bias_ff=False,
        bias_attn=False,
        use_conv_block=False,
        use_conv_bias=True,
        conv_layout=False,
        conv_kernel_size=3,
        norm=norm,
        norm_eps=NORM_EPS[norm],
        gating_dim=None if gating == "none" else gated_dim(dim, width),
        max_seq_len=4096,
        **own,
    )
    try:
        cfg.validate()
    except ValueError as error:
        raise ConfigError(f"config: {error}") from None
    return cfg


def main_transformer(data: Mapping[str, Any]) -> TransformerConfig:
    dim = required(data, "dim")
    context = data.get("context")
    if context is None:
        raise ConfigError("config has no context: a stream needs a bounded window.")
    sees = data.get("vision") is not None  # MoshiVis
    return stack_config(
        data,
        d_model=dim,
        num_heads=data.get("num_heads", 8),
        num_layers=required(data, "num_layers"),
        dim_feedforward=int(data.get("hidden_scale", 4) * dim),
        layer_scale=data.get("layer_scale"),
        context=context,
        max_period=data.get("max_period", 10000),
        cross_attention=bool(data.get("cross_attention", False)) or sees,
        cross_gated=sees,
        gating=data.get("gating", "none"),
        positional_embedding=data.get("positional_embedding", "sin"),
        kv_repeat=data.get("kv_repeat", 1),
    )
