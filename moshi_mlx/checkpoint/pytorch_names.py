"""Our tensors in the form of Kyutai's released PyTorch files: the reverse of
``models.keys``.

The depth transformer's attention is one matrix per layer, all sets of weights one above
the other, and the scale of a root-mean-square norm is ``alpha [1, 1, D]``.
"""

import re
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from ..errors import ConfigError
from ..models.kyutai_names import kyutai_name
from ..models.lm import Lm
from ..utils.tensor_files import Weights, read_header
from .moshivis_names import ENCODER, image_names, language_names
from .quantize import is_quantized

PROJECTION = re.compile(r"(.+\.(?:self_attn|cross_attention)\.)(in|out)_projs\.(\d+)")


def pytorch_names(lm: Lm, weights: Weights) -> Weights:
    """The tensors of ``lm`` with the names of Kyutai's PyTorch package.

    Those of MoshiVis, whose image encoder is among them, get the names of its own
    PyTorch package.

    Raises: ConfigError for a quantised model, which this format cannot hold.
    """
    if is_quantized(lm):
        raise ConfigError(
            "PyTorch's format holds full precision only, and this model is quantised: "
            "start from its full-precision checkpoint, or write MLX's names."
        )
    if lm.cfg.vision is not None:
        image = {k: w for k, w in weights.items() if k.startswith(ENCODER)}
        heard = {k: w for k, w in weights.items() if k not in image}
        return language_names(_plain_names(lm, heard)) | image_names(image)
    return _plain_names(lm, weights)


def _plain_names(lm: Lm, weights: Weights) -> Weights:
    modules = dict(lm.named_modules())
    named: Weights = {}
    blocks: dict[str, dict[int, mx.array]] = {}  # sets of weights by their place
    for name, w in weights.items():
        path, _, end = name.rpartition(".")
        theirs = kyutai_name(lm.cfg, path)
        if match := PROJECTION.fullmatch(theirs):
            joint = "_" if match[2] == "in" else "."
            whole = f"{match[1]}{match[2]}_proj{joint}{end}"
            blocks.setdefault(whole, {})[int(match[3])] = w
        elif isinstance(modules.get(path), nn.RMSNorm):
            named[f"{theirs}.alpha"] = w.reshape(1, 1, -1)
        else:
            named[f"{theirs}.{end}"] = w
    for whole, parts in blocks.items():
        named[whole] = mx.concatenate([parts[k] for k in sorted(parts)])
    dep = lm.cfg.depformer
    if not lm.dep_q and not dep.multi_linear:  # PyTorch keeps a projection to nothing
        width = dep.transformer.d_model
        shape, dtype = (width, lm.cfg.transformer.d_model), lm.out_norm["weight"].dtype
        named["depformer_in.0.weight"] = mx.zeros(shape, dtype)
    return named


def check_codec_names(codec: Path | Weights | None, name: str) -> None:
    """Check that a codec has Kyutai's names too.

    Raises: ConfigError if it has MLX's, which PyTorch cannot read.
    """
    names = read_header(codec) if isinstance(codec, Path) else codec
    if names and not any(key.startswith("encoder.model.") for key in names):
        raise ConfigError(
            f"the codec of {name} has MLX's names, which PyTorch does not read: give "
            "Kyutai's own file with --mimi-weights FILE."
        )
