"""PyTorch moshi's names for our modules: the reverse of ``models.keys``.

Steps of the depth transformer that share a set of weights have one name there.
Source of the names: kyutai-labs/moshi, models/lm.py and modules/transformer.py.
"""

import re

from .config import LmConfig

_SLICE = re.compile(r"depformer\.slices\.(\d+)\.(.+)")
_PROJECTION = re.compile(r"(self_attn|cross_attention)\.(in|out)_proj")
_PLAIN_GATING = re.compile(r"gating\.(linear[12])")


def kyutai_name(cfg: LmConfig, path: str) -> str:
    """Kyutai's name of the module at ``path`` of ``Lm(cfg)``."""
    if match := _SLICE.fullmatch(path):
        return _in_slice(cfg, int(match[1]), match[2])
    return _in_layer(path.replace("audio_embs.", "emb."), 0)


def _in_slice(cfg: LmConfig, step: int, path: str) -> str:
    dep, (part, _, rest) = cfg.depformer, path.partition(".")
    end = f".{rest}" if rest else ""
    if part == "emb":
        table = f"depformer_emb.{step - 1}" if step else "depformer_text_emb"
        return table + end
    if part != "transformer":
        sets = {
            "linear_in": f"depformer_in.{dep.input_set(step)}",
            "linear_out": f"linears.{step}",
            "norm": f"depformer_norms.{step}",
        }
        return sets[part] + end
    chosen = dep.weight_set(step)
    name = _in_layer(f"depformer.{rest}", chosen)
    if dep.weights_per_step:
        name = name.replace(".gating.linear_", f".gating.{chosen}.linear_")
    return name


def _in_layer(name: str, chosen: int) -> str:
    name = _PROJECTION.sub(rf"\1.\2_projs.{chosen}", name)
    return _PLAIN_GATING.sub(r"\1", name)
