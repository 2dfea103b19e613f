"""Parts of the networks: arrays in, arrays out."""

from .kv_cache import KVCache, RotatingKVCache
from .transformer import ProjectedTransformer, Transformer, TransformerConfig

__all__ = [
    "KVCache",
    "ProjectedTransformer",
    "RotatingKVCache",
    "Transformer",
    "TransformerConfig",
]
