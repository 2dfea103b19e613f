"""The configuration of one transformer stack."""

from dataclasses import dataclass

POSITIONS = ("none", "sin", "rope", "sin_rope", "rope_concat")


@dataclass
class TransformerConfig:
    """One stack. The first 21 fields are moshi_mlx 0.3.0's, with the same meaning.

    ``context`` is the attention window in positions. ``max_seq_len`` is kept for
    programs that set it; it limits nothing. ``gating=True`` means silu, a string names
    one of ``ACTIVATIONS``, and False or "none" gives a plain two-layer block.

    ``gating_dim`` (the width inside a gated block) and ``norm_eps`` are set when the
    config comes from a config.json; None keeps 0.3.0's rules. ``kv_bits`` (8 or 4)
    quantises the keys and values of new streams; None leaves them unquantised.
    ``cross_gated`` makes the condition of a cross-attending stack optional: layers
    share one attention to it, and gate its output.
    """

    d_model: int
    num_heads: int
    num_layers: int
    causal: bool
    norm_first: bool
    bias_ff: bool
    bias_attn: bool
    layer_scale: float | None
    positional_embedding: str
    use_conv_block: bool
    cross_attention: bool
    conv_kernel_size: int
    use_conv_bias: bool
    gating: bool | str
    norm: str
    context: int
    max_period: float
    max_seq_len: int
    kv_repeat: int
    dim_feedforward: int
    conv_layout: bool
    gating_dim: int | None = None
    norm_eps: float | None = None
    kv_bits: int | None = None
    cross_gated: bool = False

    @property
    def head_dim(self) -> int:
        return self.d_model // self.num_heads

    @property
    def kv_heads(self) -> int:
        """Heads of keys, and of values; ``kv_repeat`` query heads share each."""
        return self.num_heads // self.kv_repeat

    @property
    def rotated(self) -> bool:
        """Whether queries and keys are rotated by their position."""
        return "rope" in self.positional_embedding

    @property
    def gated_width(self) -> int:
        """Width inside a gated block: ``gating_dim``, or 0.3.0's rule."""
        if self.gating_dim is not None:
            return self.gating_dim
        if self.dim_feedforward == 4 * self.d_model:
            return 11 * self.d_model // 4
        return 2 * self.dim_feedforward // 3

    @property
    def layer_norm_eps(self) -> float | None:
        """Epsilon of the layers' norms; None is the default of their kind.

        0.3.0 built "rms_norm" with 1e-8. A config read from JSON has its own value.
        """
        if self.norm_eps is None and self.norm == "rms_norm":
            return 1e-8
        return self.norm_eps

    def validate(self) -> None:
        """Check that the stack can be built.

        Raises: ValueError naming the field that is wrong.
        """
        if self.d_model % self.num_heads or self.num_heads % self.kv_repeat:
            raise ValueError(
                f"{self.num_heads} heads (kv_repeat {self.kv_repeat}) do not divide "
                f"a width of {self.d_model}."
            )
        if self.positional_embedding not in POSITIONS:
            raise ValueError(
                f"positional_embedding {self.positional_embedding!r} is unknown: use "
                f"one of {', '.join(POSITIONS)}."
            )
        for name, value, wanted in (
            ("causal", self.causal, True),
            ("norm_first", self.norm_first, True),
            ("use_conv_block", self.use_conv_block, False),
        ):
            if bool(value) != wanted:
                raise ValueError(f"{name}={value} is not supported: set {wanted}.")
