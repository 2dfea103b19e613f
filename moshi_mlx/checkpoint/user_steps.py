"""Folders of nu-dialogue's trainer (J-Moshi), with depth steps for the user's streams.

It trains the depth transformer to predict the user's codes too, so that a recording
teaches twice. In a conversation those are heard, not predicted: the steps are left out
here, as the trainer's own ``clean_moshi`` does. Its unfinished folders write
``linear_in_weight`` for ``linear_in.weight``.
Source: nu-dialogue/moshi-finetune, tools/clean_moshi.py at 3879d29.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..models.config import LmConfig
from ..models.keys import weight_sets
from ..utils.tensor_files import Weights

CONFIG_NAME = "moshi_lm_kwargs.json"
NO_TOKENIZER = (
    "%s has no tokenizer, so %s's is taken. Japanese models need their own: give "
    "--tokenizer hf://nu-dialogue/j-moshi-ext/tokenizer_spm_32k_3.model"
)
EXPOSED = r"(.+\.(?:gating(?:\.\d+)?\.linear_(?:in|out)|self_attn\.out_proj))_weight"
STEPS = re.compile(
    r"(?P<part>depformer_in|depformer_emb|linears|depformer\.layers\.\d+\.gating)"
    r"\.(?P<k>\d+)\..+"
)
STACKED = re.compile(
    r"depformer\.layers\.\d+\.self_attn\.(?:in_proj_weight|out_proj\.\w+)"
)
LISTED = re.compile(
    r"depformer\.layers\.\d+\.self_attn\.(?:in|out)_projs\.(?P<k>\d+)\..+"
)


def is_japanese(name: str, folder: Path | None) -> bool:
    """Whether a checkpoint is J-Moshi's or LLM-jp's, by its name or its trainer's
    config: their vocabulary has as many pieces as Moshi's, and other ones."""
    if folder is not None and (folder / CONFIG_NAME).is_file():
        return True
    return re.search(r"\bj-moshi|jp-moshi", name, re.IGNORECASE) is not None


def heard_config(data: Mapping[str, Any]) -> dict[str, Any]:
    """The trainer's config with the user's streams heard, not predicted."""
    own, total = data.get("dep_q"), data.get("n_q")
    if own != total or not isinstance(total, int) or total % 2:
        return dict(data)
    return {**data, "dep_q": total // 2, "depformer_context": total // 2}


def plain_names(weights: Mapping[str, mx.array]) -> Weights:
    """The names of an unfinished folder as those of a plain PyTorch file."""
    return {re.sub(f"^{EXPOSED}$", r"\1.weight", k): w for k, w in weights.items()}


def own_steps(weights: Weights, cfg: LmConfig) -> Weights:
    """A PyTorch file's tensors without the depth steps of the user's streams.

    Only if the file has a step for each stream and the config half as many, and the
    model does not foresee the user (PersonaPlex keeps all its steps).
    """
    own, held = cfg.generated_codebooks, weight_sets(weights)
    each = cfg.depformer.weights_per_step_schedule is None
    if held != cfg.audio_codebooks or held != 2 * own or not each:
        return weights
    if cfg.foreseen_codebooks:
        return weights
    kept: Weights = {}
    for name, w in weights.items():
        step = STEPS.fullmatch(name) or LISTED.fullmatch(name)
        last = own - 1 if name.startswith("depformer_emb.") else own
        if step and int(step["k"]) >= last:
            continue
        kept[name] = w[: len(w) // 2] if STACKED.fullmatch(name) else w
    return kept
