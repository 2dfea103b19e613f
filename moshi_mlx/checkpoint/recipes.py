"""Named ways to quantise a model: the bits of each kind of layer.

``mixed`` spends bits where they help most for their cost: heads and tables have 8 bits,
attention 5, the rest 4, in groups of 64. Heads, then attention, are the most sensitive
layers for their size. Of a table, a step reads only one row, so its bits cost no time.
Measured on the demo model (docs/performance.md): it reads no more per step than q4, and
has a fifth of its divergence in the text and six tenths in the audio.
"""

import re
from dataclasses import replace

import mlx.nn as nn

from ..errors import ConfigError
from .kinds import ModelKind
from .quantize import BITS, FIXED_MODES, Choice, Recipe, same

KINDS = {  # kind of layer: a pattern for its path
    "text embedding": r"text_emb(\..+)?",
    "audio embeddings": r"audio_embs\..+",
    "attention in": r"transformer(\.layers\.\d+)?\.(self|cross)_att\w+\.in_proj",
    "attention out": r"transformer(\.layers\.\d+)?\.(self|cross)_att\w+\.out_proj",
    "feed-forward in": r"transformer\.layers\.\d+\.gating\.linear(_in|1)",
    "feed-forward out": r"transformer\.layers\.\d+\.gating\.linear(_out|2)",
    "text head": r"text_linear",
    "depth embeddings": r"depformer\.slices\.\d+\.emb(\..+)?",
    "depth input": r"depformer\.slices\.\d+\.linear_in",
    "depth attention in": r"depformer\..+self_attn\.in_proj",
    "depth attention out": r"depformer\..+self_attn\.out_proj",
    "depth feed-forward in": r"depformer\..+gating\.linear(_in|1)",
    "depth feed-forward out": r"depformer\..+gating\.linear(_out|2)",
    "depth heads": r"depformer\.slices\.\d+\.linear_out",
}
MIXED_BITS = {  # 4 for other layers
    "text head": 8,
    "depth heads": 8,
    "text embedding": 8,
    "audio embeddings": 8,
    "depth embeddings": 8,
    "attention in": 5,
    "attention out": 5,
}
NAME = re.compile(r"q(?P<bits>[2-8])(g(?P<group>\d+))?(d(?P<depth>[2-8]))?")
PERSONA = "q4d8"  # PersonaPlex's default: below 8 bits its depth transformer garbles


def kind_of(path: str) -> str:
    """Which of ``KINDS`` a layer is; "other" if none."""
    found = (kind for kind, form in KINDS.items() if re.fullmatch(form, path))
    return next(found, "other")


def recipe_named(name: str) -> Recipe:
    """The recipe with a name: ``mixed``, ``q4``, ``q6g128``, ``q4d8``, ``mxfp4`` ...

    Raises: ConfigError for an unknown name.
    """
    if name == "mixed":
        return mixed
    if name in FIXED_MODES:
        return same(Choice.of(mode=name))
    match = NAME.fullmatch(name)
    depth = match and match["depth"]
    if match is None or not {int(match["bits"]), int(depth or 8)} <= {*BITS}:
        raise ConfigError(
            f"recipe {name!r} is unknown: use q2, q3, q4, q5, q6 or q8, also with a "
            "group size (q4g64) or other bits for the depth transformer (q4d8), "
            f"{', '.join(FIXED_MODES)}, or mixed."
        )
    group = match["group"]
    choice = Choice.of(int(match["bits"]), int(group) if group else None)
    return _apart(choice, Choice.of(int(depth))) if depth else same(choice)


def while_loading(kind: ModelKind, bits: int) -> Recipe:
    """The recipe for a model that is loaded in this many bits."""
    garbled = kind.takes_persona and bits < 8
    return recipe_named(f"q{bits}d8") if garbled else same(Choice.of(bits))


def _apart(choice: Choice, depth: Choice) -> Recipe:
    """One choice for all layers, except those of the depth transformer."""

    def recipe(path: str, layer: nn.Module) -> Choice:
        chosen = depth if path.startswith("depformer.") else choice
        narrow = layer["weight"].shape[-1] % 64
        return replace(chosen, group_size=32) if narrow else chosen

    return recipe


def mixed(path: str, layer: nn.Module) -> Choice:
    """``MIXED_BITS`` in groups of 64; of 32 if a width is not a multiple of 64."""
    group = 32 if layer["weight"].shape[-1] % 64 else 64
    return Choice(group, MIXED_BITS.get(kind_of(path), 4))


def only(kind: str, choice: Choice) -> Recipe:
    """Quantise one kind of layer, to see how much depends on it."""
    return lambda path, _layer: choice if kind_of(path) == kind else None
