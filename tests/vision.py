"""The golden MoshiVis: small, random, with what Kyutai's kyuteye_pt makes of it."""

import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from moshi_mlx.checkpoint.moshivis import image_part, language_part
from moshi_mlx.models import Lm, LmConfig
from moshi_mlx.models.image import ImageEncoder
from moshi_mlx.models.keys import pytorch_rules
from moshi_mlx.utils.remap import remap
from tests.tiny import DATA, parameters

VIS = DATA / "moshivis"
Tensors = dict[str, mx.array]


def config() -> dict[str, Any]:
    return json.loads((VIS / "config.json").read_text())


@cache
def tensors(file: str) -> Tensors:
    loaded = mx.load(str(VIS / f"{file}.safetensors"))
    assert isinstance(loaded, dict)
    return loaded


def golden_encoder() -> ImageEncoder:
    cfg = LmConfig.from_config_dict(config())
    assert cfg.vision is not None
    encoder = ImageEncoder(cfg.vision, cfg.transformer.d_model)
    encoder.load_weights(list(image_part(tensors("model"), "golden").items()))
    return encoder


def golden_vis() -> Lm:
    lm = Lm(LmConfig.from_config_dict(config()))
    mine = language_part(tensors("model"), "golden")
    lm.load_weights(list(remap(mine, pytorch_rules(lm.cfg), "golden").items()))
    return lm


def mlx_names(lm: Lm, encoder: ImageEncoder) -> Tensors:
    """Every tensor under its name in Kyutai's MLX files."""
    named: Tensors = {}
    for name, w in parameters(lm).items():
        if match := re.fullmatch(r"(.+)\.cross_gate\.linear([12])\.(.+)", name):
            place = 2 * int(match[2]) - 2
            gate = f"{match[1]}.cross_attention.gate.alpha.layers.{place}"
            named[f"{gate}.{match[3]}"] = w
        elif name.startswith("transformer.cross_attention."):
            for layer in range(lm.cfg.transformer.num_layers):
                named |= _shared(name, w, layer)
        else:
            named[name] = w
    tower = {
        n: w for n, w in tensors("model").items() if n.startswith("image_prefix.e")
    }
    named |= {
        n.replace("image_prefix.enc", "img_embedder"): w for n, w in tower.items()
    }
    for name, w in parameters(encoder).items():
        if name.startswith(("proj.", "norm.")):
            named[f"transformer.image_prefix.{name.replace('.', '_xa.')}"] = w
    return named


def _shared(name: str, w: mx.array, layer: int) -> Tensors:
    """A tensor of the shared attention as it stands in the files under each layer: of
    keys and values, later ones only have scales and biases."""
    mha, part = f"transformer.layers.{layer}.cross_attention.mha", name.split(".")[-1]
    if ".out_proj." in name:
        return {f"{mha}.out_proj.{part}": w}
    q, kv = w[: w.shape[0] // 3], w[w.shape[0] // 3 :]
    kept = {} if layer and part == "weight" else {f"{mha}.kv_proj.{part}": kv}
    return {f"{mha}.q_proj.{part}": q, **kept}


def vis_folder(folder: Path) -> Path:
    """A complete checkpoint, with the golden codec: its 64 codes need larger tables."""
    mx.random.seed(3)
    weights = dict(tensors("model"))
    for name, w in weights.items():
        rows = {48: 64, 49: 65}.get(w.shape[0])
        if rows is not None and re.match(r"audio_|depformer_emb", name):
            more = mx.random.normal((rows - w.shape[0], *w.shape[1:]))
            weights[name] = mx.concatenate([w, more])
    files = {
        "mimi_name": "mimi.safetensors",
        "mimi_config_name": "mimi_config.json",
        "tokenizer_name": "tokenizer.model",
    }
    folder.mkdir(exist_ok=True)
    for name in files.values():
        shutil.copy(DATA / "tts" / name, folder)
    data = {**config(), **files, "card": 64}
    (folder / "config.json").write_text(json.dumps(data))
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    return folder


def picture(seed: int = 0) -> NDArray[np.uint8]:
    """A golden image ``[28, 28, 3]``."""
    return np.array(tensors("io")["images"][seed])
