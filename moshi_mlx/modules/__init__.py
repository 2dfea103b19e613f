"""Parts of the networks: arrays in, arrays out."""

from .conv import (
    Conv1d,
    ConvTranspose1d,
    NormConv1d,
    NormConvTranspose1d,
    StreamableConv1d,
    StreamableConvTranspose1d,
)
from .kv_cache import KVCache, RotatingKVCache
from .quantization import EuclideanCodebook, SplitResidualVectorQuantizer
from .resample import ConvDownsample1d, ConvTrUpsample1d
from .seanet import SeanetConfig, SeanetDecoder, SeanetEncoder
from .transformer import ProjectedTransformer, Transformer, TransformerConfig

__all__ = [
    "Conv1d",
    "ConvDownsample1d",
    "ConvTrUpsample1d",
    "ConvTranspose1d",
    "EuclideanCodebook",
    "KVCache",
    "NormConv1d",
    "NormConvTranspose1d",
    "ProjectedTransformer",
    "RotatingKVCache",
    "SeanetConfig",
    "SeanetDecoder",
    "SeanetEncoder",
    "SplitResidualVectorQuantizer",
    "StreamableConv1d",
    "StreamableConvTranspose1d",
    "Transformer",
    "TransformerConfig",
]
