"""Values that config.json may hold: what is no number, or none that fits, raises.

A config edited by hand, or of another program, is told in one sentence instead of
failing deep inside the network.
"""

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError

# The least value of each whole number; the same keys with ``depformer_`` before them.
WHOLE = {
    "dim": 1,
    "num_heads": 1,
    "num_layers": 1,
    "context": 1,
    "kv_repeat": 1,
    "card": 1,
    "n_q": 0,
    "dep_q": 0,
    "text_card": 1,
    "text_card_out": 1,
    "existing_text_padding_id": 0,
    "existing_text_end_padding_id": 0,
    "extra_heads_num_heads": 0,
    "extra_heads_dim": 1,
    "low_rank_embeddings": 1,
}
POSITIVE = ("hidden_scale", "max_period")
LISTS = ("delays", "weights_per_step_schedule")  # of whole numbers from 0
NAMES = ("moshi_name", "mimi_name", "mimi_config_name", "tokenizer_name", "lora_name")
TABLES = ("conditioners", "fuser", "lm_gen_config", "tts_config", "stt_config")

CODEC_POSITIVE = ("sample_rate", "frame_rate", "max_period")
CODEC_WHOLE = frozenset(
    (
        *("channels", "dimension", "n_filters", "compress"),
        *("kernel_size", "residual_kernel_size", "last_kernel_size", "dilation_base"),
        *("n_q", "bins", "d_model", "num_heads", "num_layers", "dim_feedforward"),
        *("context", "kv_repeat", "input_dimension"),
    )
)
CODEC_LISTS = ("ratios", "output_dimensions")  # of whole numbers from 1
CODEC_PARTS = ("seanet", "quantizer", "transformer")


def check_values(data: Mapping[str, Any]) -> None:
    """Check the kind and range of every value that is there and not null.

    Raises: ConfigError naming the first key that does not fit.
    """
    for key, value in data.items():
        name = key.removeprefix("depformer_")
        if value is None:
            continue
        if name in WHOLE and not _is_whole(value, WHOLE[name]):
            raise _unfit(key, value, f"a whole number from {WHOLE[name]}")
        if name in POSITIVE and not _is_positive(value):
            raise _unfit(key, value, "a number above 0")
        if name in LISTS and not _are_whole(value, 0):
            raise _unfit(key, value, "a list of whole numbers from 0")
        if name == "dim_feedforward" and not (
            _is_whole(value, 1) or (value and _are_whole(value, 1))
        ):
            raise _unfit(key, value, "a whole number from 1, or a list of them")
        if key in NAMES and not isinstance(value, str):
            raise _unfit(key, value, "a file name")
        if key in TABLES and not isinstance(value, Mapping):
            raise _unfit(key, value, "an object")
    _check_sampling(data.get("lm_gen_config") or {})


def check_codec_values(data: Mapping[str, Any]) -> None:
    """``check_values`` for the JSON of a Mimi codec, its parts included."""
    for key, value in data.items():
        if key in CODEC_PARTS:
            if not isinstance(value, Mapping):
                raise _unfit(key, value, "an object")
            check_codec_values(value)
        elif key == "context" and value is None:
            continue  # has a sentence of its own
        elif key in CODEC_WHOLE and not _is_whole(value, 1):
            raise _unfit(key, value, "a whole number from 1")
        elif key in CODEC_POSITIVE and not _is_positive(value):
            raise _unfit(key, value, "a number above 0")
        elif key in CODEC_LISTS and not (value and _are_whole(value, 1)):
            raise _unfit(key, value, "a list of whole numbers from 1")


def _check_sampling(data: Mapping[str, Any]) -> None:
    for key in ("temp", "temp_text", "cfg_coef"):
        if type(data.get(key, 0)) not in (int, float):
            raise _unfit(f"lm_gen_config {key}", data[key], "a number")
    for key in ("top_k", "top_k_text"):
        if not _is_whole(data.get(key, 0), 0):
            raise _unfit(f"lm_gen_config {key}", data[key], "a whole number from 0")


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _are_whole(value: Any, least: int) -> bool:
    return isinstance(value, list | tuple) and all(_is_whole(v, least) for v in value)


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and value > 0


def _unfit(key: str, value: Any, wanted: str) -> ConfigError:
    return ConfigError(f"config has {key} {value!r}: give {wanted}.")
