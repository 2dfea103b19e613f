"""Moshi and speech to text as the transformers library saves them, in Kyutai's form.

The library splits the projections of queries, keys and values. If positions are
rotated, it orders the rows of the first two by halves instead of pairs. The depth
transformer's matrices, one per codebook, are stacked on a first axis. Speech to text
has one table for text and all codebooks, with a row of zeros at its end and at the
head's end. The codec is in the same files.
Source: huggingface/transformers, models/moshi and models/kyutai_speech_to_text.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from ..errors import CheckpointError, ConfigError
from ..models.config import LmConfig
from ..models.mimi_transformers import in_pairs
from ..models.schema import shortened
from ..utils.remap import Rule, remap
from ..utils.tensor_files import Weights

NORMS = {1e-8: "rms_norm_f32", 1e-5: "rms_norm"}
# The released speech-to-text models, distinguished by the size of their text
# vocabulary.
STT_RELEASED: dict[int, dict[str, Any]] = {
    4000: {
        "tokenizer_name": "hf://kyutai/stt-2.6b-en/tokenizer_en_audio_4000.model",
        "stt_config": {
            "audio_delay_seconds": 2.5,
            "audio_silence_prefix_seconds": 1.0,
        },
    },
    8000: {
        "tokenizer_name": "hf://kyutai/stt-1b-en_fr/tokenizer_en_fr_audio_8000.model",
        "stt_config": {
            "audio_delay_seconds": 0.5,
            "audio_silence_prefix_seconds": 0.0,
        },
    },
}
PART = r"(?P<part>[qkvo])_proj(?:\.linear)?\.weight"  # ".linear" since version 4.5x
LAYER = r"layers\.(?P<l>\d+)"
STACKED = re.compile(  # one matrix per codebook
    rf"depth_decoder\.(?:{LAYER}\.mlp\.fc(?P<fc>[12])|(?P<at>\w+))\.weight"
)


def moshi_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a ``MoshiForConditionalGeneration`` as Kyutai would write it.

    Raises: ConfigError for missing or invalid values.
    """
    depth = config.get("depth_decoder_config")
    if not isinstance(depth, Mapping):
        raise ConfigError("config.json has no depth_decoder_config: is it Moshi's?")
    own = _count(depth, "num_codebooks")
    width = _count(depth, "hidden_size")
    delays = [0] + [1] * (own - 1)
    return {
        "model_type": "moshi",
        **_main_stack(config),
        "text_card": _count(config, "vocab_size"),
        "card": _count(config, "audio_vocab_size"),
        "n_q": 2 * own,
        "dep_q": own,
        "delays": [0, *delays, *delays],
        "depformer_dim": width,
        "depformer_dim_feedforward": _feedforward(width, depth),
        "depformer_num_heads": _count(depth, "num_attention_heads"),
        "depformer_num_layers": _count(depth, "num_hidden_layers"),
        "depformer_kv_repeat": _kv_repeat(depth),
        "depformer_gating": _activation(depth),
        "depformer_pos_emb": "none",
        "depformer_multi_linear": True,
        "depformer_weights_per_step": True,
    }


def stt_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a ``KyutaiSpeechToTextForConditionalGeneration``, likewise.

    The length of the silence around a recording is in another of the library's files
    (preprocessor_config.json); here the released models' values are used.
    """
    heard, text = _count(config, "num_codebooks"), _count(config, "vocab_size") - 1
    main = _main_stack(config)
    return {
        "model_type": "stt",
        **main,
        "depformer_dim": main["dim"],  # there is no depth step
        "text_card": text,
        "card": _count(config, "codebook_vocab_size") - 1,
        "n_q": heard,
        "dep_q": 0,
        "delays": [0] * (heard + 1),
        **STT_RELEASED.get(text, {}),
    }


def _main_stack(config: Mapping[str, Any]) -> dict[str, Any]:
    width = _count(config, "hidden_size")
    heads = _count(config, "num_attention_heads")
    if config.get("head_dim") not in (None, width // heads):
        raise ConfigError(
            f"config has head_dim {shortened(config['head_dim'])} with {heads} heads "
            f"in {width}: only their quotient is supported."
        )
    eps = config.get("rms_norm_eps", 1e-8)
    if eps not in NORMS:
        raise ConfigError(
            f"config has rms_norm_eps {shortened(eps)}: supported are {list(NORMS)}."
        )
    rope = config.get("rope_parameters")
    rope = rope if isinstance(rope, Mapping) else config
    padding = config.get("pad_token_id")
    return {
        "dim": width,
        "num_heads": heads,
        "num_layers": _count(config, "num_hidden_layers"),
        "hidden_scale": _scale(width, _feedforward(width, config)),
        "kv_repeat": _kv_repeat(config),
        "context": _count(config, "sliding_window"),
        "max_period": rope.get("rope_theta", 10000.0),
        "gating": _activation(config),
        "norm": NORMS[eps],
        "causal": True,
        "positional_embedding": "rope",
        "existing_text_padding_id": 3 if padding is None else padding,
    }


def _count(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(
            f"config.json has {key} {shortened(value)}: expected a whole number from 1."
        )
    return value


def _kv_repeat(config: Mapping[str, Any]) -> int:
    heads = _count(config, "num_attention_heads")
    kv_heads = config.get("num_key_value_heads") or heads
    if not isinstance(kv_heads, int) or kv_heads < 1 or heads % kv_heads:
        raise ConfigError(
            f"config.json has num_key_value_heads {shortened(kv_heads)} for {heads} "
            "heads: expected a divisor."
        )
    return heads // kv_heads


def _activation(config: Mapping[str, Any]) -> Any:
    return config.get("hidden_act") or "silu"


def _feedforward(width: int, config: Mapping[str, Any]) -> int:
    """Kyutai's ``dim_feedforward`` for ``ffn_dim``, which is twice the inner width.

    Kyutai takes two thirds of it, but 21/8 of the width if it is 4 times that.
    """
    inner, odd = divmod(_count(config, "ffn_dim"), 2)
    for wanted in (-(-3 * inner // 2), -(-3 * inner // 2) + 1):
        if not odd and wanted != 4 * width and 2 * wanted // 3 == inner:
            return wanted
    if not odd and 21 * width // 8 == inner:
        return 4 * width
    raise ConfigError(
        f"config.json has ffn_dim {config['ffn_dim']} with a width of {width}, which "
        "no model of Kyutai's can have."
    )


def _scale(width: int, feedforward: int) -> float:
    """The number whose product with ``width``, rounded down, is ``feedforward``."""
    scale = feedforward / width
    return scale if int(scale * width) == feedforward else math.nextafter(scale, 1e9)


def rename_moshi(weights: Weights, cfg: LmConfig, what: str) -> Weights:
    """Tensors of a ``MoshiForConditionalGeneration`` with Kyutai's PyTorch names."""
    own = cfg.generated_codebooks
    stacked = {
        "input_projections": "depformer_in.{k}",
        "lm_heads": "linears.{k}",
    }
    named: Weights = {}
    for name, w in weights.items():
        theirs = STACKED.fullmatch(name)
        if theirs and theirs["fc"]:
            side = "in" if theirs["fc"] == "1" else "out"
            target = f"depformer.layers.{theirs['l']}.gating.{{k}}.linear_{side}"
        else:
            target = stacked.get(theirs["at"] or "") if theirs else None
        if target is None:
            named[name] = w
            continue
        if w.ndim != 3 or w.shape[0] != own:
            raise _not_fitting(what, name, w, f"[{own}, out, in]")
        for k in range(own):
            named[f"{target.format(k=k)}.weight"] = w[k]
    named = _joined(named, r"decoder\.model", "transformer", cfg, what)
    named = _joined(named, "depth_decoder", "depformer", cfg, what)
    return remap(named, _MOSHI_RULES, what)


def rename_stt(weights: Weights, cfg: LmConfig, what: str) -> Weights:
    """Tensors of a ``KyutaiSpeechToTextForConditionalGeneration`` likewise."""
    table = "model.embed_tokens.embed_tokens.weight"
    text, card = cfg.text_in_vocab_size, cfg.audio_vocab_size
    rows = text + card * cfg.audio_codebooks
    named = dict(weights)
    whole, head = named.pop(table, None), named.pop("lm_head.weight", None)
    if whole is None or head is None:
        lacking = table if whole is None else "lm_head.weight"
        raise CheckpointError(f"{what} lack {lacking}: fetch the other files, too.")
    if whole.ndim != 2 or len(whole) not in (rows, rows + 1):
        raise _not_fitting(what, table, whole, f"{rows + 1} rows")
    if head.ndim != 2 or len(head) not in (text - 1, text):
        raise _not_fitting(what, "lm_head.weight", head, f"{text} rows")
    named["text_emb.weight"] = whole[:text]
    for k in range(cfg.audio_codebooks):
        start = text + k * card
        named[f"emb.{k}.weight"] = whole[start : start + card]
    named["text_linear.weight"] = head[: text - 1]
    named = _joined(named, "model", "transformer", cfg, what)
    return remap(named, _STT_RULES, what)


def _joined(
    weights: Weights, stack: str, target: str, cfg: LmConfig, what: str
) -> Weights:
    """Queries, keys and values of a stack one above the other, in pairs if rotated.

    The depth transformer's, ``[K, out, in]`` each, end one codebook after another.
    """
    pattern = re.compile(rf"{stack}\.{LAYER}\.self_attn\.{PART}")
    found: dict[str, dict[str, mx.array]] = {}
    joined: Weights = {}
    for name, w in weights.items():
        if match := pattern.fullmatch(name):
            found.setdefault(match["l"], {})[match["part"]] = w
        else:
            joined[name] = w
    main = cfg.transformer
    for layer, parts in found.items():
        lacking = set("qkvo") - parts.keys()
        if lacking:
            raise CheckpointError(
                f"{what} lack {min(lacking)}_proj of layer {layer}: fetch the other "
                "files, too."
            )
        q, k, v, o = (parts[part] for part in "qkvo")
        if target == "transformer":
            try:
                q, k = in_pairs(q, main.num_heads), in_pairs(k, main.kv_heads)
            except ValueError as error:
                raise CheckpointError(f"{what}: layer {layer}: {error}") from error
        qkv = mx.concatenate([q, k, v], axis=-2)
        into = f"{target}.layers.{layer}.self_attn"
        joined[f"{into}.in_proj_weight"] = qkv.reshape(-1, qkv.shape[-1])
        joined[f"{into}.out_proj.weight"] = o.reshape(-1, o.shape[-1])
    return joined


def _not_fitting(what: str, name: str, w: mx.array, wanted: str) -> CheckpointError:
    return CheckpointError(
        f"{what}: {name} has shape {w.shape} but the config makes it {wanted}: they "
        "belong to another configuration."
    )


def _layer_rules(stack: str, target: str) -> list[Rule]:
    layer, into = rf"{stack}\.{LAYER}", rf"{target}.layers.\g<l>"
    return [
        Rule(rf"{layer}\.mlp\.fc1\.weight", f"{into}.gating.linear_in.weight"),
        Rule(rf"{layer}\.mlp\.fc2\.weight", f"{into}.gating.linear_out.weight"),
        Rule(rf"{layer}\.input_layernorm\.weight", f"{into}.norm1.weight"),
        Rule(rf"{layer}\.post_attention_layernorm\.weight", f"{into}.norm2.weight"),
        Rule(r".*rotary_emb\.inv_freq", None),  # computed here
    ]


_RENAMED = r"(?:transformer|depformer|depformer_in|linears|emb|text_\w+)\..+"
_MOSHI_RULES = [
    Rule(_RENAMED, r"\g<0>"),
    Rule(r"decoder\.model\.embed_tokens\.weight", "text_emb.weight"),
    Rule(r"decoder\.model\.norm\.weight", "out_norm.weight"),
    Rule(r"decoder\.lm_head\.weight", "text_linear.weight"),
    Rule(r"embed_tokens\.(\d+)\.weight", r"emb.\1.weight"),
    Rule(r"depth_decoder\.text_embed_tokens\.weight", "depformer_text_emb.weight"),
    Rule(r"depth_decoder\.embed_tokens\.(\d+)\.weight", r"depformer_emb.\1.weight"),
    *_layer_rules(r"decoder\.model", "transformer"),
    *_layer_rules("depth_decoder", "depformer")[2:4],
    Rule(r"audio_encoder\..+", None),  # the codec, read by itself
]
_STT_RULES = [
    Rule(_RENAMED, r"\g<0>"),
    Rule(r"model\.norm\.weight", "out_norm.weight"),
    *_layer_rules("model", "transformer"),
    Rule(r"codec_model\..+", None),  # likewise
]
