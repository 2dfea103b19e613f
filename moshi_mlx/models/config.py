"""Configuration of a language model, and the strict reading of config.json.

Every key of a published config.json is read, or belongs to packaging or training alone,
or is named in a warning. A value that changes the computation in a way that is not
supported raises. Source of keys and defaults: kyutai-labs/moshi, models/lm.py and
models/loaders.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..errors import ConfigError
from ..modules.conditioner import LutConditionerConfig, TensorConditionerConfig
from ..modules.norm import NORM_EPS
from ..modules.quantized_kv import group_size
from ..modules.transformer import TransformerConfig
from ..modules.vision import VisionConfig
from .config_keys import FUSED, check_keys
from .config_stack import choice, gated_dim, main_transformer, required, stack_config
from .config_values import check_values
from .schema import shortened, without_nulls

CONDITIONERS = ("lut", "tensor")  # look-up table, matrix on given arrays


@dataclass
class DepFormerConfig:
    """The depth transformer: one step per generated codebook.

    ``weights_per_step_schedule`` maps each step to its set of weights, None is one set
    per step. ``norm`` (a kind of norm, or None) comes before each step's head.
    ``gating_dims`` are the gated widths of the sets, if they differ.
    """

    transformer: TransformerConfig
    num_slices: int
    weights_per_step_schedule: list[int] | None = None
    low_rank_embeddings: int | None = None
    norm: str | None = None
    gating_dims: list[int] | None = None
    multi_linear: bool = True
    weights_per_step: bool = True

    def weight_set(self, step: int) -> int:
        """Index of the set of weights that a step uses."""
        if not self.weights_per_step:
            return 0
        schedule = self.weights_per_step_schedule
        return step if schedule is None else schedule[step]

    def input_set(self, step: int) -> int:
        """Index of the input projection that a step uses."""
        if not self.multi_linear:
            return 0
        schedule = self.weights_per_step_schedule
        return step if schedule is None else schedule[step]

    def slice_transformer(self, step: int) -> TransformerConfig:
        """Config of one step's transformer."""
        if self.gating_dims is None:
            return self.transformer
        width = self.gating_dims[self.weight_set(step)]
        return TransformerConfig(**{**vars(self.transformer), "gating_dim": width})


@dataclass
class LmConfig:
    """A language model over one text stream and ``audio_codebooks`` audio streams.

    The first ``generated_codebooks`` audio streams are the model's own. The depth
    transformer may also predict the first ``foreseen_codebooks`` of the other side's
    (PersonaPlex), in steps that follow its own. Delays are in steps of 80 ms.
    ``text_in_vocab_size`` counts the initial token, the last one; so does
    ``audio_vocab_size``. ``vision`` configures the vision tower of a model that sees
    images.
    """

    transformer: TransformerConfig
    depformer: DepFormerConfig
    text_in_vocab_size: int
    text_out_vocab_size: int
    audio_vocab_size: int
    audio_codebooks: int
    audio_delays: list[int]
    conditioners: dict[str, LutConditionerConfig | TensorConditionerConfig] = field(
        default_factory=dict
    )
    demux_second_stream: bool = False
    extra_heads_num_heads: int = 0
    extra_heads_dim: int = 6
    text_delay: int = 0
    text_padding_token: int = 3
    text_end_padding_token: int = 0
    norm_emb: bool = False
    bias_proj: bool = False
    vision: VisionConfig | None = None
    foreseen_codebooks: int = 0

    @property
    def generated_codebooks(self) -> int:
        """The model's own audio streams."""
        return self.depformer.num_slices - self.foreseen_codebooks

    @property
    def other_codebooks(self) -> int:
        return self.audio_codebooks - self.generated_codebooks

    @property
    def text_initial_token(self) -> int:
        """The token that stands in the text stream before the first text token."""
        return self.text_in_vocab_size - 1

    @property
    def audio_padding_token(self) -> int:
        """The token that stands in an audio stream before its first code."""
        return self.audio_vocab_size - 1

    @property
    def audio_eos_token(self) -> int:
        return self.audio_vocab_size - 2

    @property
    def silent_text(self) -> tuple[int, int]:
        """Text tokens that say nothing: padding, and the end of padding."""
        return self.text_padding_token, self.text_end_padding_token

    @property
    def max_delay(self) -> int:
        return max([self.text_delay, *self.audio_delays])

    def with_kv_bits(self, bits: int | None) -> "LmConfig":
        """The same, with keys and values of streams in ``bits``; None changes nothing.

        Raises: ConfigError for bits or head widths that are not supported.
        """
        if bits is None:
            return self
        try:
            group_size(self.transformer.head_dim, bits)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return replace(self, transformer=replace(self.transformer, kv_bits=bits))

    @classmethod
    def from_config_dict(cls, data: Mapping[str, Any]) -> "LmConfig":
        """Read a config.json.

        Raises: ConfigError for a missing key and for a value that is not supported.
        """
        check_keys(data)
        check_values(data)
        data = without_nulls(data)
        delays = list(required(data, "delays"))
        n_q, dep_q = required(data, "n_q"), required(data, "dep_q")
        if len(delays) != n_q + 1:
            raise ConfigError(
                f"config has {len(delays)} delays for {n_q} codebooks and text: give "
                f"{n_q + 1}."
            )
        if dep_q > n_q:
            raise ConfigError(f"config has dep_q {dep_q} above n_q {n_q}: lower dep_q.")
        foreseen = data.get("foreseen_codebooks", 0)
        if foreseen > dep_q:
            raise ConfigError(
                f"config has foreseen_codebooks {foreseen} above dep_q {dep_q}: they "
                "are among the steps of the depth transformer."
            )
        if data.get("norm_emb") and data.get("demux_second_stream"):
            raise ConfigError(
                "config has norm_emb with demux_second_stream: no such embedding is "
                "defined; set one of them to false."
            )
        text_card = data.get("text_card", 32000)
        text_out = data.get("text_card_out")
        for key in ("existing_text_padding_id", "existing_text_end_padding_id"):
            if (data.get(key) or 0) > text_card:
                raise ConfigError(
                    f"config has {key} {data[key]} with a text_card of {text_card}: no "
                    "token has that number."
                )
        return cls(
            transformer=main_transformer(data),
            depformer=_depformer(data, dep_q),
            text_in_vocab_size=text_card + 1,
            text_out_vocab_size=text_card if text_out is None else text_out,
            audio_vocab_size=data.get("card", 1024) + 1,
            audio_codebooks=n_q,
            audio_delays=delays[1:],
            text_delay=delays[0],
            conditioners=_conditioners(data),
            demux_second_stream=data.get("demux_second_stream", False),
            extra_heads_num_heads=data.get("extra_heads_num_heads", 0),
            extra_heads_dim=data.get("extra_heads_dim", 6),
            text_padding_token=data.get("existing_text_padding_id", 3),
            text_end_padding_token=data.get("existing_text_end_padding_id", 0),
            norm_emb=data.get("norm_emb", False),
            bias_proj=data.get("bias_proj", False),
            vision=_vision(data.get("vision")),
            foreseen_codebooks=foreseen,
        )


def _depformer(data: Mapping[str, Any], dep_q: int) -> DepFormerConfig:
    """PyTorch's rule: ``depformer_x`` overrides ``x``; the window is the frame."""

    def own(key: str, default: Any = None) -> Any:
        value = data.get(f"depformer_{key}", default)
        return default if value is None else value

    def inherited(key: str, default: Any) -> Any:
        return own(key, data.get(key, default))

    dim = own("dim", 256)
    width = own("dim_feedforward", int(data.get("hidden_scale", 4) * dim))
    widths = width if isinstance(width, list) else None
    norm = data.get("depformer_norm")
    if norm is not None:
        choice("depformer_norm", norm, NORM_EPS)
    schedule = data.get("depformer_weights_per_step_schedule")
    if schedule is not None and len(schedule) != dep_q:
        raise ConfigError(
            f"depformer_weights_per_step_schedule has {len(schedule)} entries for "
            f"{dep_q} codebooks: give one each."
        )
    if schedule and set(schedule) != set(range(max(schedule) + 1)):
        raise ConfigError(
            f"depformer_weights_per_step_schedule uses the sets {sorted(set(schedule))}"
            f": number them from 0 to {len(set(schedule)) - 1}."
        )
    gating = inherited("gating", "none")
    sets = max(schedule) + 1 if schedule else dep_q
    if widths and (len(widths) != sets or gating == "none"):
        raise ConfigError(
            f"depformer_dim_feedforward lists {len(widths)} widths for {sets} sets of "
            f"weights with gating {shortened(gating)}: give one each, "
            "with a gating."
        )
    transformer = stack_config(
        data,
        d_model=dim,
        num_heads=own("num_heads", data.get("num_heads", 8)),
        num_layers=own("num_layers", data.get("num_layers")),
        dim_feedforward=widths[0] if widths else width,
        layer_scale=data.get("depformer_layer_scale", data.get("layer_scale")),
        context=max(dep_q, 1),
        max_period=inherited("max_period", 10000),
        cross_attention=False,
        gating=gating,
        positional_embedding=own("pos_emb", "sin"),
        kv_repeat=inherited("kv_repeat", 1),
    )
    return DepFormerConfig(
        transformer=transformer,
        num_slices=dep_q,
        weights_per_step_schedule=schedule,
        low_rank_embeddings=data.get("depformer_low_rank_embeddings"),
        norm=norm,
        gating_dims=[gated_dim(dim, w) for w in widths] if widths else None,
        multi_linear=data.get("depformer_multi_linear", False),
        weights_per_step=data.get("depformer_weights_per_step", False),
    )


def _vision(data: Mapping[str, Any] | None) -> VisionConfig | None:
    """The vision tower's config, in the names of the transformers library."""
    if data is None:
        return None
    known = {field.name for field in fields(VisionConfig)}
    given = {key: value for key, value in without_nulls(data).items() if key in known}
    cfg = VisionConfig(**given)
    if cfg.hidden_size % cfg.num_attention_heads:
        raise ConfigError(
            f"config has vision with {cfg.num_attention_heads} num_attention_heads in "
            f"a hidden_size of {cfg.hidden_size}: they must divide it."
        )
    if cfg.image_size < cfg.patch_size:
        raise ConfigError(
            f"config has vision with image_size {cfg.image_size} below its patch_size "
            f"of {cfg.patch_size}: an image has at least one patch."
        )
    return cfg


def _conditioners(
    data: Mapping[str, Any],
) -> dict[str, LutConditionerConfig | TensorConditionerConfig]:
    fuser = data.get("fuser") or {}
    for key, value in fuser.items():
        if value and key not in FUSED:
            raise ConfigError(
                f"fuser has {key[:40]} {shortened(value)}: conditions can only 'sum' "
                "and 'cross'."
            )
    scale = without_nulls(fuser).get("cross_attention_pos_emb_scale", 1)
    scale = float(scale) if fuser.get("cross_attention_pos_emb", not fuser) else 0.0
    result: dict[str, LutConditionerConfig | TensorConditionerConfig] = {}
    entries = data.get("conditioners") or {}
    summed, crossed = fuser.get("sum") or [], fuser.get("cross") or []
    fused = [*summed, *crossed]
    for name in sorted(entries, key=lambda n: fused.index(n) if n in fused else -1):
        entry = entries[name]
        kind = choice(f"conditioner {name!r} of type", entry.get("type"), CONDITIONERS)
        own = entry.get(kind) or {}
        needed = ("n_bins", "dim") if kind == "lut" else ("dim",)
        for key in needed:
            if own.get(key) is None:
                raise ConfigError(f"conditioner {name!r} has no {key!r}: add it.")
        if name in (crossed if kind == "lut" else summed):
            raise ConfigError(
                f"fuser uses conditioner {name!r} of type {kind} as it is not meant: "
                "'lut' is summed, 'tensor' is attended to."
            )
        counts = not fuser or name in fused
        if kind == "lut":
            words = own.get("tokenizer", "noop")
            choice(f"conditioner {name!r} with tokenizer", words, ("noop",))
            values = own.get("possible_values") or []
            if len(values) > own["n_bins"]:
                raise ConfigError(
                    f"conditioner {name!r} has {len(values)} possible_values in "
                    f"{own['n_bins']} n_bins: each needs one."
                )
            result[name] = LutConditionerConfig(
                n_bins=own["n_bins"],
                dim=own["dim"],
                tokenizer=own.get("tokenizer", "noop"),
                possible_values=own.get("possible_values"),
                fused=counts,
            )
        else:
            result[name] = TensorConditionerConfig(own["dim"], scale, fused=counts)
    return result
