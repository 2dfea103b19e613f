"""PersonaPlex as speech-swift publishes it, in three files for three Swift modules.

``aufklarer/PersonaPlex-7B-MLX-4bit`` and ``-8bit`` have separate files for the temporal
transformer, the depth transformer and the tables. The names leave out which file they
are in, so layer 0 of either transformer is ``layers.0``. Otherwise they are PyTorch's,
and both transformers are quantised in MLX's way, in groups of 64.
Source: soniqo/speech-swift, scripts/convert_personaplex.py.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

PREFIX = {
    "temporal.safetensors": "transformer.",
    "depformer.safetensors": "depformer.",
    "embeddings.safetensors": "",
}
FILES = tuple(PREFIX)
CODEC = "mimi.safetensors"
SAME = ("card", "text_card", "context", "max_period", "hidden_scale")
SIZES = ("dim", "num_heads", "num_layers")  # of either transformer
SLICE = "depformer.slices.{}"
TABLES = ("audio_embs.{}", f"{SLICE}.emb", f"{SLICE}.linear_out")  # not quantised
MOST_STEPS = 128
_PACKED = re.compile(r"(.+)_(scales|biases)")
_T = TypeVar("_T")


def is_split(data: Mapping[str, Any]) -> bool:
    """Whether a config.json describes such files."""
    parts = data.get("temporal"), data.get("depformer")
    mine = data.get("model_type") == "personaplex"
    return mine and all(isinstance(part, Mapping) for part in parts)


def whole_config(data: Mapping[str, Any]) -> dict[str, Any]:
    """Their config.json in Kyutai's form."""
    main, depth = data["temporal"], data["depformer"]
    steps = depth.get("num_steps", 16)
    whole = {key: main[key] for key in (*SIZES, *SAME) if key in main}
    whole |= {f"depformer_{key}": depth[key] for key in SIZES if key in depth}
    inner = depth.get("dim_feedforward")
    if isinstance(inner, int):  # of the gated half; Kyutai counts both, and a third
        whole["depformer_dim_feedforward"] = inner * 3 // 2
    others = "model_type", "delays", "voices"
    whole |= {key: data[key] for key in others if key in data}
    stated = data.get("quantization")
    if isinstance(stated, Mapping):
        count = steps if type(steps) is int and steps <= MOST_STEPS else 0  # told later
        tables = ["text_emb", "text_linear"]
        tables += [name.format(k) for name in TABLES for k in range(count)]
        kept = {key: stated[key] for key in ("bits", "group_size") if key in stated}
        whole["quantization"] = kept | dict.fromkeys(tables, False)
    return {**whole, "n_q": steps, "dep_q": steps, "mimi_name": CODEC}


def placed(path: Path, tensors: Mapping[str, _T]) -> dict[str, _T]:
    """The tensors of one of these files with complete names; others unchanged."""
    prefix = PREFIX.get(path.name)
    if prefix is None:
        return dict(tensors)
    return {_whole(name, prefix): tensor for name, tensor in tensors.items()}


def _whole(name: str, prefix: str) -> str:
    name = _PACKED.sub(r"\1.\2", name)
    return prefix + name if name.startswith("layers.") else name
