"""The published formats of language models, in one table.

A format is recognised by the content of the files, never by their names: by its
tensors, and for the transformers library's formats by the architecture in config.json.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..errors import CheckpointError
from ..models.config import LmConfig
from ..models.keys import pytorch_rules, weight_sets
from ..models.schema import in_words
from ..utils.remap import remap, shown
from ..utils.tensor_files import Weights
from .helium import rename_helium
from .lora import unfrozen
from .transformers_lm import moshi_config, rename_moshi, rename_stt, stt_config
from .user_steps import own_steps, plain_names

INT8_SCALE = "_scb"  # bitsandbytes: the largest absolute value of each row
Config = dict[str, Any]
Rename = Callable[[Weights, LmConfig, str], Weights]


def _same(weights: Weights, _cfg: LmConfig, _what: str) -> Weights:
    return weights


def _kyutais(weights: Weights, cfg: LmConfig, what: str) -> Weights:
    weights = own_steps(plain_names(weights), cfg)
    return remap(weights, pytorch_rules(cfg, weight_sets(weights)), what)


def _transformers_moshi(weights: Weights, cfg: LmConfig, what: str) -> Weights:
    return _kyutais(rename_moshi(weights, cfg, what), cfg, what)


def _transformers_stt(weights: Weights, cfg: LmConfig, what: str) -> Weights:
    return _kyutais(rename_stt(weights, cfg, what), cfg, what)


def _helium(weights: Weights, _cfg: LmConfig, what: str) -> Weights:
    return rename_helium(weights, what)


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: shown by ``info``.
        marks: regular expressions for whole names of tensors; each must match one.
        rename: gives the tensors our names, which are those of MLX files.
        architecture: the architecture in a config.json of the transformers library.
        config: turns such a config.json into Kyutai's.
        codec: start of the names of the codec's tensors, if it is in the same files;
            and the key of its configuration.
    """

    name: str
    marks: tuple[str, ...]
    rename: Rename
    architecture: str = ""
    config: Callable[[Mapping[str, Any]], Config] = dict
    codec: tuple[str, str] = "", ""


PYTORCH = Format(
    "pytorch",
    (r"emb\.0\.weight|.+\.(alpha|in_proj_weight|in_projs\.0\.weight)",),
    _kyutais,
)
# The first format whose marks are all found is used.
FORMATS = (
    Format("candle", (r"depformer\.\d+\.linear_in\.weight",), _kyutais),
    Format(
        "transformers, Moshi",
        (r"decoder\.model\.embed_tokens\.weight", r"depth_decoder\..+"),
        _transformers_moshi,
        "MoshiForConditionalGeneration",
        moshi_config,
        ("audio_encoder.", "audio_encoder_config"),
    ),
    Format(
        "transformers, speech to text",
        (r"model\.embed_tokens\.embed_tokens\.weight",),
        _transformers_stt,
        "KyutaiSpeechToTextForConditionalGeneration",
        stt_config,
        ("codec_model.", "codec_config"),
    ),
    Format(
        "transformers",  # Helium, whose config helium_config reads
        (r"model\.embed_tokens\.weight", r"model\.norm\.weight"),
        _helium,
    ),
    PYTORCH,
    Format("mlx", (r"text_emb\.(out1\.)?weight",), _same),
)
FOREIGN_NAMES = {  # tensors of other models
    r"encoder\.(model\.|init_conv).+|quantizer\.semantic_residual_.+": "a Mimi codec, "
    "not a language model: use it with moshi-mlx codec or moshi_mlx.load_codec",
    r".*flow_(lm|net).*": "Pocket TTS, another architecture",
}


def format_of(names: Collection[str], what: str) -> Format:
    """The format of a language model's tensors.

    Raises: CheckpointError if it is not one of ours, saying what it seems to be.
    """
    found = next(
        (f for f in FORMATS if all(_any(mark, names) for mark in f.marks)), None
    )
    if found is None or found.name in ("pytorch", "mlx"):  # names that others use too
        for pattern, kind in FOREIGN_NAMES.items():
            if _any(pattern, names):
                raise CheckpointError(f"{what} hold {kind}.")
    if found is None:
        raise CheckpointError(
            f"{what} hold no Moshi language model but {shown(names) or 'nothing'}."
        )
    return found


def format_of_config(config: Mapping[str, Any]) -> Format | None:
    """The transformers library's format that a config.json describes, if any.

    Raises: CheckpointError for an architecture that is not supported.
    """
    named = config.get("architectures")
    if "dim" in config or not isinstance(named, list) or not named:
        return None
    for found in FORMATS:
        if found.architecture and found.architecture in named:
            return found
    if config.get("model_type") in ("mimi", "helium", "personaplex"):
        return None  # recognised by its model_type
    known = ", ".join(f.architecture for f in FORMATS if f.architecture)
    raise CheckpointError(
        f"config.json describes a {in_words([str(named[0])])} of the transformers "
        f"library, which is not read here: of its layouts {known}, MimiModel and "
        "HeliumForCausalLM are."
    )


def _any(pattern: str, names: Collection[str]) -> bool:
    compiled = re.compile(pattern)
    return any(compiled.fullmatch(name) for name in names)


def rename(
    weights: Weights, found: Format, cfg: LmConfig, what: str, widened: mx.Dtype
) -> Weights:
    """A file's tensors with our names; int8 ones become ``widened``."""
    return found.rename(widen_int8(unfrozen(weights), widened), cfg, what)


def widen_int8(weights: Weights, dtype: mx.Dtype) -> Weights:
    """Matrices that bitsandbytes rounded to int8, as floats again; others unchanged.

    A row of ``weight`` (int8) is a multiple of its ``weight_scb / 127`` (float32).
    Source: kyutai-labs/moshi, utils/quantize.py; bitsandbytes int8_vectorwise_quant.
    """
    widened = dict(weights)
    for name, scale in weights.items():
        matrix = name.removesuffix(INT8_SCALE)
        if matrix != name and matrix in weights:
            step = scale.astype(mx.float32).reshape(-1, 1) / 127
            rows = weights[matrix].astype(mx.float32)
            widened[matrix] = (rows * step).astype(dtype)
            del widened[name]
    return widened
