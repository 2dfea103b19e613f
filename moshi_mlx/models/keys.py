"""The names of Kyutai's tensors, as rules built from a model's config.

One table reads three naming schemes: PyTorch's released one (``in_proj_weight``, all
weight sets of the depth transformer in one matrix), that of newer PyTorch state dicts
(``in_projs.3.weight``), and candle's (``depformer.3.transformer...``, one transformer
per codebook). LoRA adapters (``.lora_A``, ``.lora_B``) follow their matrix. Steps that
share a set of weights share one array.
Source: kyutai-labs/moshi, models/lm.py, modules/transformer.py and
    scripts/import_rust.py.
"""

import re
from collections.abc import Iterable
from functools import cache

import mlx.core as mx

from ..utils.remap import Move, Rule
from .config import LmConfig

# of a matrix, its adapters, or of a quantised one (GGUF)
TAIL = r"(?P<tail>(?:\.lora_[AB])?\.(?:weight|bias)|\.scales|\.biases)"
SLICES = "depformer.slices"


def pytorch_rules(cfg: LmConfig, sets: int | None = None) -> list[Rule]:
    """Rules from a PyTorch or candle file to the names of ``Lm(cfg)``.

    Args:
        sets: weight sets of the depth transformer in the file (``weight_sets``). If
            there are fewer than the config asks for, they are used in turn.
    """
    rules = [
        Rule(r"(text_emb|text_linear|extra_heads|condition_provider)\..+", r"\g<0>"),
        Rule(r"emb(?P<rest>\.\d+\..+)", r"audio_embs\g<rest>"),
        *_norm_rules("out_norm", "out_norm"),
        *layer_rules(r"transformer\.layers\.(?P<l>\d+)", r"transformer.layers.\g<l>"),
        *_candle_rules(),
        # MoshiVis, once checkpoint/moshivis.py has sorted its tensors
        Rule(r"transformer\.(cross_attention|layers\.\d+\.cross_gate)\..+", r"\g<0>"),
    ]
    for step in range(cfg.depformer.num_slices):
        rules += _slice_rules(cfg, step, sets)
    if not cfg.depformer.num_slices:  # PyTorch keeps an input projection to nothing
        rules.append(Rule(r"depformer_in\.0\.weight", None))
    return rules


def weight_sets(names: Iterable[str]) -> int | None:
    """How many weight sets the depth transformer of a PyTorch file has."""
    pattern = re.compile(r"depformer\.layers\.0\.gating\.(\d+)\..+")
    found = {match[1] for name in names if (match := pattern.fullmatch(name))}
    return len(found) or None


def _slice_rules(cfg: LmConfig, step: int, sets: int | None) -> list[Rule]:
    """The tensors that the depth transformer uses for codebook ``step``."""
    dep = cfg.depformer
    wanted = max(dep.weight_set(k) for k in range(dep.num_slices)) + 1
    sets = wanted if sets is None else min(sets, wanted)
    chosen = dep.weight_set(step) % sets
    # PersonaPlex can use Moshi's 8 sets for its 16 steps, including heads and tables.
    period = sets if sets < wanted else dep.num_slices
    source_in = dep.input_set(step) % period
    target = f"{SLICES}.{step}"
    inner = rf"{target}.transformer.layers.\g<l>"
    layer = r"depformer\.layers\.(?P<l>\d+)"
    gating = rf"{layer}\.gating\.{chosen}" if dep.weights_per_step else None
    return [
        Rule(rf"depformer_in\.{source_in}{TAIL}", rf"{target}.linear_in\g<tail>"),
        Rule(rf"linears\.{step % period}{TAIL}", rf"{target}.linear_out\g<tail>"),
        *_norm_rules(rf"depformer_norms\.{step % period}", f"{target}.norm"),
        _table_rule(step, period, f"{target}.emb"),
        *layer_rules(layer, inner, chosen, sets, gating),
    ]


def _table_rule(step: int, period: int, target: str) -> Rule:
    """The embedding of the previous step's choice."""
    if step == 0:
        return Rule(r"depformer_text_emb\.(?P<rest>.+)", rf"{target}.\g<rest>")
    if step == period:  # a file for fewer steps has no table for its last one's choice
        nothing = rf"depformer_emb\.{period - 2}\.(?P<rest>.+)"
        return Rule(nothing, rf"{target}.\g<rest>", mx.zeros_like)
    index = (step - 1) % period
    return Rule(rf"depformer_emb\.{index}\.(?P<rest>.+)", rf"{target}.\g<rest>")


def layer_rules(
    source: str, target: str, chosen: int = 0, sets: int = 1, gating: str | None = None
) -> list[Rule]:
    """One transformer layer; of matrices with ``sets`` blocks of rows, it takes one."""
    block = row_block(chosen, sets)
    attn = rf"{source}\.(?P<a>self_attn|cross_attention)"
    into = rf"{target}.\g<a>"
    gating = gating or rf"{source}\.gating"
    gated = rf"{target}.gating.\g<p>\g<tail>"
    proj = rf"{into}.\g<p>_proj\g<tail>"
    scale = r"(?P<scale>layer_scale_(?:1|2|cross)\.scale)"
    return [
        Rule(rf"{attn}\.in_proj_weight", f"{into}.in_proj.weight", block),
        Rule(rf"{attn}\.(?P<p>in|out)_proj{TAIL}", proj, block),
        Rule(rf"{attn}\.(?P<p>in|out)_projs\.{chosen}{TAIL}", proj),
        *_norm_rules(rf"{source}\.(?P<n>norm1|norm2|norm_cross)", rf"{target}.\g<n>"),
        Rule(rf"{gating}\.(?P<p>linear_in|linear_out){TAIL}", gated),
        Rule(rf"{source}\.(?P<p>linear1|linear2){TAIL}", gated),
        Rule(rf"{source}\.{scale}", rf"{target}.\g<scale>"),
    ]


def _candle_rules() -> list[Rule]:
    """Candle's depth transformer: already sorted by codebook."""
    own, into = r"depformer\.(?P<s>\d+)", rf"{SLICES}.\g<s>"
    parts = r"(?P<rest>(?:linear_in|linear_out|emb)\..+)"
    layer = r"transformer\.layers\.(?P<l>\d+)"
    return [
        Rule(rf"{own}\.{parts}", rf"{into}.\g<rest>"),
        *_norm_rules(rf"{own}\.norm", f"{into}.norm"),
        *layer_rules(rf"{own}\.{layer}", rf"{into}.transformer.layers.\g<l>"),
    ]


def _norm_rules(source: str, target: str) -> list[Rule]:
    return [
        Rule(rf"{source}\.alpha", f"{target}.weight", flat),
        Rule(rf"{source}\.(?P<end>weight|bias)", rf"{target}.\g<end>"),
    ]


def flat(w: mx.array) -> mx.array:
    """A norm's ``alpha [1, 1, D]`` as ``[D]``."""
    return w.reshape(-1)


@cache
def row_block(index: int, count: int) -> Move:
    """Take one of ``count`` equal blocks of rows; one object per block."""

    def take(w: mx.array) -> mx.array:
        return w if count == 1 else w.reshape(count, -1, *w.shape[1:])[index]

    return take
