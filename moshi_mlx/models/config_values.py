"""The schema of config.json: each field's type, range and bound.

A config edited by hand, by another program or by a stranger is refused in one sentence
instead of failing, or filling the memory, deep inside the network. The ranges are a few
times wider than in any released model.
"""

from collections.abc import Mapping
from typing import Any

from .schema import (
    Kind,
    Room,
    Schema,
    above,
    bounded,
    check,
    either,
    flag,
    listed,
    number,
    or_null,
    shortened,
    text,
    whole,
)

MAX_WIDTH = 1 << 16  # Moshi: 4096
MAX_ROWS = 1 << 22  # of a table; Hibiki: 48,000
MAX_LAYERS = 512  # released: 48
MAX_DEPTH_LAYERS = 32  # of the depth transformer, once a codebook; released: 6
MAX_CODEBOOKS = 128  # released: 32
MAX_CONTEXT = 1_000_000  # steps; released: 4096
MAX_DELAY = 1000  # steps: 80 s; released: 31
MAX_PIXELS = 4096  # a side of an image; released: 448
MAX_SECONDS = 60.0  # of a delay; released: 2.5


_WIDTH = bounded(whole(1, MAX_WIDTH), "axis")
_ROWS = bounded(whole(1, MAX_ROWS), "axis")
_NAME = text("a name")
_FILE = text("a file name")
_SECONDS = number(0, MAX_SECONDS)
SCALING = number(-1000, 1000)  # of adapters


def _is_quantization(value: Any) -> bool:
    """Defaults, and under a layer's name the same keys, or whether it is quantised.

    Anything else that other programs put there (a method's name) is let through.
    """
    known: Schema = {"bits": whole(1, 16), "group_size": whole(1, 4096), "mode": _NAME}
    if not isinstance(value, Mapping):
        return False
    for key, inner in value.items():
        kind = known.get(key)
        if isinstance(kind, Kind):
            fits = inner is None or kind.fits(inner)
        else:
            fits = _is_quantization(inner) or isinstance(
                inner, bool | int | float | str
            )
        if not fits:
            return False
    return True


_STACK: Schema = {  # of either transformer
    "dim": _WIDTH,
    "num_heads": whole(1, 1024),
    "kv_repeat": whole(1, 1024),
    "context": whole(1, MAX_CONTEXT),
    "max_period": above(0, 1e12),
    "layer_scale": number(-1000, 1000),
    "gating": _NAME,
    "norm": _NAME,
}
_DEPTH: Schema = {
    **_STACK,
    "num_layers": bounded(whole(1, MAX_DEPTH_LAYERS), "tensors"),
    "dim_feedforward": either(
        _WIDTH, listed(_WIDTH, "them", least=1, most=MAX_CODEBOOKS)
    ),
    "low_rank_embeddings": _WIDTH,
    "pos_emb": _NAME,
    "multi_linear": flag(),
    "weights_per_step": flag(),
    "weights_per_step_schedule": listed(
        bounded(whole(0, MAX_CODEBOOKS), "tensors"), "whole numbers from 0 to 128"
    ),
}
_DEPFORMER: Schema = {f"depformer_{key}": kind for key, kind in _DEPTH.items()}
CONFIG: Schema = {
    **_STACK,
    "num_layers": bounded(whole(1, MAX_LAYERS), "tensors"),
    "hidden_scale": above(0, 64),
    "positional_embedding": _NAME,
    "card": _ROWS,
    "text_card": _ROWS,
    "text_card_out": _ROWS,
    "n_q": bounded(whole(0, MAX_CODEBOOKS), "tensors"),
    "dep_q": bounded(whole(0, MAX_CODEBOOKS), "tensors"),
    "foreseen_codebooks": whole(0, MAX_CODEBOOKS),
    "delays": listed(whole(0, MAX_DELAY), f"whole numbers from 0 to {MAX_DELAY}"),
    "existing_text_padding_id": whole(0, MAX_ROWS),
    "existing_text_end_padding_id": whole(0, MAX_ROWS),
    "extra_heads_num_heads": bounded(whole(0, 1024), "tensors"),
    "extra_heads_dim": _ROWS,
    "norm_emb": flag(),
    "bias_proj": flag(),
    "demux_second_stream": flag(),
    "cross_attention": either(flag(), listed(_NAME, "names")),
    "conditioners": {},
    "vision": {  # in the words of the transformers library
        "hidden_size": _WIDTH,
        "intermediate_size": _WIDTH,
        "num_hidden_layers": bounded(whole(1, MAX_LAYERS), "tensors"),
        "num_attention_heads": whole(1, 1024),
        "image_size": whole(1, MAX_PIXELS),
        "patch_size": whole(1, MAX_PIXELS),
    },
    "fuser": {
        "sum": listed(_NAME, "names"),
        "cross": listed(_NAME, "names"),
        "cross_attention_pos_emb": flag(),
        "cross_attention_pos_emb_scale": number(-1000, 1000),
    },
    **dict.fromkeys(("moshi_name", "mimi_name", "mimi_config_name"), _FILE),
    **dict.fromkeys(("tokenizer_name", "lora_name"), _FILE),
    "model_type": _NAME,
    "lm_gen_config": {
        **dict.fromkeys(("temp", "temp_text"), number(0, 100)),
        **dict.fromkeys(("top_k", "top_k_text"), whole(0, MAX_ROWS)),
        "cfg_coef": number(0, 100),
    },
    "tts_config": {
        "audio_delay": _SECONDS,
        "second_stream_ahead": whole(0, MAX_DELAY),
        "multistream": flag(),
        "max_speakers": whole(1, 64),
        "voice": text("the name of a voice", r"[\w.-]{1,100}"),
    },
    "stt_config": {
        "audio_delay_seconds": _SECONDS,
        "audio_silence_prefix_seconds": _SECONDS,
    },
    "model_id": {  # in the names of voice files
        "sig": text("letters and digits", r"[0-9A-Za-z_-]{1,100}"),
        "epoch": whole(0, 10**9),
    },
    "quantization": Kind(
        "an object with bits, group_size and mode, and below a layer's name the same, "
        "true or false",
        _is_quantization,
    ),
    "quantize": flag(),
    "lora": flag(),
    "lora_rank": whole(0, MAX_WIDTH),
    "lora_scaling": SCALING,
}
CONDITIONER: Schema = {
    "type": _NAME,
    "lut": {
        "n_bins": _ROWS,
        "dim": _WIDTH,
        "tokenizer": _NAME,
        "possible_values": listed(text("a word", ".{0,1000}"), "words"),
    },
    "tensor": {"dim": _WIDTH},
}
_ROPE: Schema = {"rope_theta": above(0, 1e12)}
_TRANSFORMERS: Schema = {  # in the words of the transformers library
    "hidden_size": _WIDTH,
    "intermediate_size": _WIDTH,
    "ffn_dim": whole(1, 4 * MAX_WIDTH),
    "num_attention_heads": whole(1, 1024),
    "num_key_value_heads": whole(1, 1024),
    "num_hidden_layers": bounded(whole(1, MAX_LAYERS), "tensors"),
    "max_position_embeddings": whole(1, MAX_CONTEXT),
    "sliding_window": whole(1, MAX_CONTEXT),
    **_ROPE,
    "rope_parameters": _ROPE,
    "rms_norm_eps": above(0, 1),
    **dict.fromkeys(("vocab_size", "audio_vocab_size", "codebook_vocab_size"), _ROWS),
    **dict.fromkeys(("num_codebooks", "num_quantizers"), whole(1, MAX_CODEBOOKS)),
    "head_dim": whole(1, MAX_WIDTH),
    "hidden_act": _NAME,
    "pad_token_id": whole(0, MAX_ROWS),
}
TRANSFORMERS: Schema = {**_TRANSFORMERS, "depth_decoder_config": _TRANSFORMERS}

_KERNEL = whole(1, 1000)
_RATE = above(0, 400_000)
_RATIOS = listed(whole(1, 1000), "whole numbers from 1 to 1000", least=1, most=16)
CODEC: Schema = {
    "channels": whole(1, 64),
    "sample_rate": _RATE,
    "frame_rate": above(0, 10_000),
    "seanet": {
        "channels": whole(1, 64),
        "dimension": _WIDTH,
        "n_filters": _WIDTH,
        "n_residual_layers": bounded(whole(0, 16), "tensors"),
        "compress": whole(1, 64),
        **dict.fromkeys(("kernel_size", "residual_kernel_size"), _KERNEL),
        "last_kernel_size": _KERNEL,
        "dilation_base": whole(1, 16),
        "ratios": _RATIOS,
        "true_skip": flag(),
    },
    "quantizer": {
        "dimension": _WIDTH,
        "n_q": bounded(whole(1, MAX_CODEBOOKS), "tensors"),
        "bins": _ROWS,
    },
    "transformer": {
        "d_model": _WIDTH,
        "num_heads": whole(1, 1024),
        "num_layers": bounded(whole(1, MAX_LAYERS), "tensors"),
        "dim_feedforward": _WIDTH,
        "context": or_null(whole(1, MAX_CONTEXT)),  # null has a sentence of its own
        "kv_repeat": whole(1, 1024),
        "max_period": above(0, 1e12),
        "layer_scale": or_null(number(-1000, 1000)),
        "gating": _NAME,
        "norm": _NAME,
        "positional_embedding": _NAME,
        "input_dimension": _WIDTH,
        "output_dimensions": listed(_WIDTH, "whole numbers from 1", least=1, most=1000),
    },
}


def check_values(data: Mapping[str, Any], room: Room | None = None) -> None:
    """Check the type and range of every value that is present and not null.

    Args:
        room: what the weights leave room for, if they are known.

    Raises: ConfigError naming the first value that does not fit.
    """
    check(data, {**CONFIG, **TRANSFORMERS}, room)
    check(data, _DEPFORMER, room if data.get("dep_q", 1) else None)
    for name, entry in (data.get("conditioners") or {}).items():
        check(entry, CONDITIONER, room, f"conditioners {shortened(name)} ")


def check_transformers_values(data: Mapping[str, Any]) -> None:
    """``check_values`` for a config.json in the transformers library's words, before it
    is put into Kyutai's."""
    check(data, TRANSFORMERS)


def check_transformers_codec(data: Any) -> None:
    """``check_values`` for the codec's config.json in the transformers library's words;
    ``check_codec_values`` bounds the other values."""
    rates = dict.fromkeys(("sampling_rate", "frame_rate", "_frame_rate"), _RATE)
    check(data, {**TRANSFORMERS, **rates, "upsampling_ratios": _RATIOS})


def check_codec_values(data: Mapping[str, Any], room: Room | None = None) -> None:
    """``check_values`` for the JSON of a Mimi codec, in which null is not allowed."""
    check(data, CODEC, room, null_is_absent=False)
