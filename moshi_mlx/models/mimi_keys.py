"""The names of the tensors in Kyutai's Mimi files, as rules built from the config.

Both published naming schemes are read: that of the released files (``in_proj_weight``)
and that of newer PyTorch state dicts (``in_projs.0.weight``), with older spellings of
the codebooks' statistics. Our names are those of moshi_mlx 0.3.0. Source of theirs:
kyutai-labs/moshi, models/compression.py, modules/seanet.py, quantization/core_vq.py.
"""

import re
from collections.abc import Iterable

import mlx.core as mx

from ..modules.seanet import SeanetConfig
from ..utils.remap import Rule
from .keys import layer_rules
from .mimi_config import MimiConfig

ACOUSTIC = re.compile(  # Kyutai's name, and the transformers library's
    r"quantizer\.(?:rvq_rest\.vq|acoustic_residual_vector_quantizer)\.layers\.(\d+)\..+"
)
STATISTICS = {  # our name of each, and its spellings over time
    "initialized": "_initialized|inited",
    "cluster_usage": "cluster_usage|cluster_size",
    "embedding_sum": "embedding_sum|embed_sum|embed_avg",
}


def mimi_rules(cfg: MimiConfig) -> list[Rule]:
    """Rules from a PyTorch file to the names of ``Mimi(cfg)``."""
    transformer = r"(?P<side>encoder|decoder)_transformer"
    ends = r"(?P<end>input_proj|output_projs\.\d+)\.weight"
    return [
        *_encoder_rules(cfg.seanet),
        *_decoder_rules(cfg.seanet),
        *layer_rules(
            rf"{transformer}\.transformer\.layers\.(?P<l>\d+)",
            r"\g<side>_transformer.transformer.layers.\g<l>",
        ),
        Rule(rf"{transformer}\.{ends}", r"\g<side>_transformer.\g<end>.weight"),
        *_conv_rules(r"downsample\.conv", "downsample.conv"),
        *_convtr_rules(r"upsample\.convtr", "upsample.convtr"),
        *_quantizer_rules(),
    ]


def without_surplus_codebooks(
    weights: dict[str, mx.array], cfg: MimiConfig
) -> dict[str, mx.array]:
    """The tensors without the acoustic codebooks that the config does not use."""
    used = cfg.quantizer_nq - 1
    kept = {k: w for k, w in weights.items() if _index(k) < used}
    if not used:
        kept = {k: w for k, w in kept.items() if not k.startswith("quantizer.rvq_rest")}
    return kept


def count_codebooks(names: Iterable[str]) -> int:
    """The number of codebooks in a file, judged by the names of its tensors."""
    return max(map(_index, names), default=-1) + 2


def _index(name: str) -> int:
    """Position of a tensor's acoustic codebook, -1 for other tensors."""
    match = ACOUSTIC.fullmatch(name)
    return int(match[1]) if match else -1


def _encoder_rules(cfg: SeanetConfig) -> list[Rule]:
    model = r"encoder\.model"
    rules = _conv_rules(rf"{model}\.0", "encoder.init_conv1d")
    at = 1  # in PyTorch's flat list, which counts activations too
    for layer in range(len(cfg.ratios)):
        target = f"encoder.layers.{layer}"
        for i in range(cfg.nresidual_layers):
            rules += _block_rules(rf"{model}\.{at}", f"{target}.residuals.{i}")
            at += 1
        rules += _conv_rules(rf"{model}\.{at + 1}", f"{target}.downsample")
        at += 2
    return rules + _conv_rules(rf"{model}\.{at + 1}", "encoder.final_conv1d")


def _decoder_rules(cfg: SeanetConfig) -> list[Rule]:
    model = r"decoder\.model"
    rules = _conv_rules(rf"{model}\.0", "decoder.init_conv1d")
    at = 1
    for layer in range(len(cfg.ratios)):
        target = f"decoder.layers.{layer}"
        rules += _convtr_rules(rf"{model}\.{at + 1}", f"{target}.upsample")
        at += 2
        for i in range(cfg.nresidual_layers):
            rules += _block_rules(rf"{model}\.{at}", f"{target}.residuals.{i}")
            at += 1
    return rules + _conv_rules(rf"{model}\.{at + 1}", "decoder.final_conv1d")


def _block_rules(source: str, target: str) -> list[Rule]:
    return [
        *_conv_rules(rf"{source}\.block\.1", f"{target}.block.0"),
        *_conv_rules(rf"{source}\.block\.3", f"{target}.block.1"),
        *_conv_rules(rf"{source}\.shortcut", f"{target}.shortcut"),
    ]


def _conv_rules(source: str, target: str) -> list[Rule]:
    return [
        Rule(
            rf"{source}\.conv\.conv\.weight", f"{target}.conv.conv.weight", inputs_last
        ),
        Rule(rf"{source}\.conv\.conv\.bias", f"{target}.conv.conv.bias"),
    ]


def _convtr_rules(source: str, target: str) -> list[Rule]:
    theirs, ours = rf"{source}\.convtr\.convtr", f"{target}.convtr.convtr"
    return [
        Rule(rf"{theirs}\.weight", f"{ours}.weight", first_last),
        Rule(rf"{theirs}\.bias", f"{ours}.bias"),
    ]


def _quantizer_rules() -> list[Rule]:
    chain = r"(?P<chain>quantizer\.rvq_(?:first|rest))"
    book = rf"{chain}\.vq\.layers\.(?P<i>\d+)\._codebook"
    return [
        Rule(
            rf"{chain}\.(?P<end>input_proj|output_proj)\.weight",
            r"\g<chain>.\g<end>.weight",
            inputs_last,
        ),
        *(
            Rule(
                rf"{book}\.(?:{theirs})", rf"\g<chain>.vq.layers.\g<i>.codebook.{ours}"
            )
            for ours, theirs in STATISTICS.items()
        ),
    ]


def inputs_last(w: mx.array) -> mx.array:
    """A convolution's ``[out, in, k]`` as ``[out, k, in]``."""
    return w.transpose(0, 2, 1)


def first_last(w: mx.array) -> mx.array:
    """A transposed convolution's ``[in, out, k]`` as ``[out, k, in]``."""
    return w.transpose(1, 2, 0)
