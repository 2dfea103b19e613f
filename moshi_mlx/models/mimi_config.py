"""Configuration of the codec, and the strict reading of its JSON.

The JSON is the file that config.json calls ``mimi_config_name``; without one the codec
is ``presets.mimi_202407``. Source of keys and defaults: kyutai-labs/moshi,
models/loaders.py and modules/seanet.py.
"""

import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from ..modules.seanet import SeanetConfig
from ..modules.transformer import TransformerConfig
from .config_stack import stack_config
from .config_values import check_codec_values
from .schema import in_words, shortened

logger = logging.getLogger(__name__)

# Keys of the JSON about training, or about a norm that published weights have folded
# in.
SEANET_TRAINING_KEYS = ("activation_params", "disable_norm_outer_blocks", "norm_params")
QUANTIZER_TRAINING_KEYS = (
    "q_dropout",
    "no_quantization_rate",
    "decay",
    "threshold_usage_ratio",
    "replaced_usage_ratio",
)
MAX_PAST = 10_000  # steps that one convolution may look back; Mimi: 3
# Supported values of keys that change the computation.
SEANET_FIXED = {
    "activation": "ELU",
    "norm": "none",
    "final_activation": None,
    "trim_right_ratio": 1.0,
}


@dataclass
class MimiConfig:
    """A codec. The fields are moshi_mlx 0.3.0's.

    Args:
        channels: of the sound.
        sample_rate: Hz.
        frame_rate: code frames per second.
        renormalize: kept for 0.3.0's signature; nothing reads it.
        quantizer_nq: codebooks K.
        quantizer_bins: codes of a codebook.
        quantizer_dim: width of a codebook.
    """

    channels: int
    sample_rate: float
    frame_rate: float
    renormalize: bool
    seanet: SeanetConfig
    transformer: TransformerConfig
    quantizer_nq: int
    quantizer_bins: int
    quantizer_dim: int

    @property
    def frame_size(self) -> int:
        """Samples per code frame."""
        return math.prod(self.seanet.ratios) * self.resample_stride

    @property
    def resample_stride(self) -> int:
        """Latents of the SEANet per code frame."""
        return round(self.sample_rate / math.prod(self.seanet.ratios) / self.frame_rate)

    @classmethod
    def from_config_dict(
        cls, data: Mapping[str, Any], num_codebooks: int | None = None
    ) -> "MimiConfig":
        """Read the codec's JSON.

        Args:
            num_codebooks: how many codebooks to use, at most the file's.

        Raises: ConfigError for a missing key, a value that is not supported, or more
            codebooks than there are.
        """
        check_codec_values(data)
        parts = ("seanet", "quantizer", "transformer")
        known = ("channels", "sample_rate", "frame_rate", "renormalize", *parts)
        _warn_of_unknown(data, known, "the codec's config")
        seanet = _seanet(_get(data, "seanet"))
        quantizer = _get(data, "quantizer")
        total = _check_quantizer(quantizer, seanet.dimension)
        if num_codebooks is not None and not 1 <= num_codebooks <= total:
            raise ConfigError(
                f"{num_codebooks} codebooks were asked for, and the codec has {total}: "
                f"give 1 to {total}."
            )
        cfg = cls(
            channels=data.get("channels", seanet.channels),
            sample_rate=_get(data, "sample_rate"),
            frame_rate=_get(data, "frame_rate"),
            renormalize=data.get("renormalize", True),
            seanet=seanet,
            transformer=_transformer(_get(data, "transformer"), seanet.dimension),
            quantizer_nq=total if num_codebooks is None else num_codebooks,
            quantizer_bins=quantizer.get("bins", 1024),
            quantizer_dim=quantizer.get("dimension", 128),
        )
        cfg.validate()
        return cfg

    def validate(self) -> None:
        """Raise a ConfigError, in one sentence, for a codec that cannot be computed."""
        if self.channels != self.seanet.channels:
            raise ConfigError(
                f"the codec's config has {self.channels} channels outside and "
                f"{self.seanet.channels} in its seanet: make them equal."
            )
        seanet = self.seanet
        past = seanet.residual_ksize * seanet.dilation_base ** (
            max(seanet.nresidual_layers, 1) - 1
        )
        if past > MAX_PAST or self.frame_size > self.sample_rate:
            raise ConfigError(
                f"the codec's config makes frames of {self.frame_size} samples and "
                f"convolutions that see {past} steps: at most a second, and {MAX_PAST} "
                "steps, are supported."
            )
        if seanet.compress > seanet.nfilters:
            raise ConfigError(
                f"the codec's seanet config has compress {seanet.compress} of "
                f"{seanet.nfilters} n_filters: nothing would be left."
            )
        latents = self.sample_rate / math.prod(self.seanet.ratios)
        if self.resample_stride < 2 or (
            abs(latents / self.frame_rate - self.resample_stride) > 1e-6
        ):
            raise ConfigError(
                f"the codec's {latents:g} latents a second cannot become "
                f"{self.frame_rate:g} frames: only 2, 3, 4... latents a frame can."
            )


def _get(data: Mapping[str, Any], key: str) -> Any:
    if key not in data:
        raise ConfigError(f"the codec's config has no {key!r}: is it a Mimi config?")
    return data[key]


def _warn_of_unknown(
    data: Mapping[str, Any], known: Collection[str], what: str
) -> None:
    unknown = sorted(set(data) - set(known))
    if unknown:
        logger.warning("%s has keys that are not read: %s", what, in_words(unknown))


def _seanet(data: Mapping[str, Any]) -> SeanetConfig:
    names = {  # of our field in the JSON, and PyTorch's default
        "dimension": ("dimension", 128),
        "channels": ("channels", 1),
        "causal": ("causal", False),
        "nfilters": ("n_filters", 32),
        "nresidual_layers": ("n_residual_layers", 3),
        "ratios": ("ratios", [8, 5, 4, 2]),
        "ksize": ("kernel_size", 7),
        "residual_ksize": ("residual_kernel_size", 3),
        "last_ksize": ("last_kernel_size", 7),
        "dilation_base": ("dilation_base", 2),
        "pad_mode": ("pad_mode", "reflect"),
        "true_skip": ("true_skip", True),
        "compress": ("compress", 2),
    }
    read = [name for name, _ in names.values()]
    known = [*read, *SEANET_FIXED, *SEANET_TRAINING_KEYS]
    _warn_of_unknown(data, known, "the codec's seanet config")
    values = {ours: data.get(*entry) for ours, entry in names.items()}
    given = {key: data.get(key, only) for key, only in SEANET_FIXED.items()}
    wanted = [(key, given[key], [only]) for key, only in SEANET_FIXED.items()]
    wanted.append(("causal", values["causal"], [True]))
    wanted.append(("pad_mode", values["pad_mode"], ["constant", "replicate"]))
    for key, value, supported in wanted:
        if value not in supported:
            raise ConfigError(
                f"the codec's seanet config has {key} {shortened(value)}: supported "
                f"are {supported}."
            )
    return SeanetConfig(**values)


def _check_quantizer(data: Mapping[str, Any], dimension: int) -> int:
    """Check the quantizer's fixed values; return its number of codebooks."""
    fixed = {
        "n_q_semantic": 1,
        "input_dimension": dimension,
        "output_dimension": dimension,
    }
    read = ("dimension", "n_q", "bins")
    known = [*read, *fixed, *QUANTIZER_TRAINING_KEYS]
    _warn_of_unknown(data, known, "the codec's quantizer config")
    for key, only in fixed.items():
        value = data.get(key, 1 if key == "n_q_semantic" else data.get("dimension"))
        if value != only:
            raise ConfigError(
                f"the codec's quantizer config has {key} {shortened(value)}: only "
                f"{only} fits."
            )
    return data.get("n_q", 8)


def _transformer(data: Mapping[str, Any], dimension: int) -> TransformerConfig:
    defaults = {  # PyTorch's
        "num_heads": 8,
        "dim_feedforward": 2048,
        "layer_scale": None,
        "context": None,
        "max_period": 10_000,
        "gating": "none",
        "positional_embedding": "sin",
        "kv_repeat": 1,
        "cross_attention": False,
    }
    ends = ("input_dimension", "output_dimensions")
    known = ("d_model", "num_layers", "causal", "norm", "conv_layout", *ends, *defaults)
    _warn_of_unknown(data, known, "the codec's transformer config")
    own = {key: data.get(key, value) for key, value in defaults.items()}
    if own["context"] is None:
        raise ConfigError(
            "the codec's transformer config has no context: a stream needs a bounded "
            "window."
        )
    if own["cross_attention"]:
        raise ConfigError("the codec's transformer has cross_attention: set false.")
    ins, outs = _get(data, "input_dimension"), list(_get(data, "output_dimensions"))
    if ins != dimension or outs != [dimension]:
        raise ConfigError(
            f"the codec's transformer goes from {ins} to {outs} channels: only "
            f"{dimension} to [{dimension}], the seanet's dimension, fits."
        )
    return stack_config(
        data, d_model=_get(data, "d_model"), num_layers=_get(data, "num_layers"), **own
    )
