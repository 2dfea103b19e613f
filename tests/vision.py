"""The golden MoshiVis: small, random, with what Kyutai's kyuteye_pt makes of it."""

import json
from functools import cache
from typing import Any

import mlx.core as mx

from moshi_mlx.checkpoint.moshivis import image_part, language_part
from moshi_mlx.models import Lm, LmConfig
from moshi_mlx.models.image import ImageEncoder
from moshi_mlx.models.keys import pytorch_rules
from moshi_mlx.utils.remap import remap
from tests.tiny import DATA

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
