"""The golden models: small, random, with what PyTorch moshi 0.2.13 makes of them."""

import json
from dataclasses import dataclass
from functools import cache

import mlx.core as mx

from moshi_mlx.models import Lm, LmConfig
from moshi_mlx.modules.conditioner import (
    ConditionAttributes,
    ConditionTensor,
    TensorCondition,
)
from tests.tiny import DATA

NAMES = ("lm_duplex", "lm_hibiki", "lm_stt", "lm_zero", "lm_tts")
Conditions = tuple[ConditionTensor | None, mx.array | None]


@dataclass(frozen=True)
class Golden:
    """A model, the inputs it was given, and the outputs it must give."""

    lm: Lm
    io: dict[str, mx.array]
    conditions: Conditions

    @property
    def steps(self) -> int:
        return self.io["step_text_tokens"].shape[1]


@cache
def golden(name: str, file: str = "model.safetensors") -> Golden:
    """Load one of ``NAMES`` from the named weights file."""
    folder = DATA / name
    config = json.loads((folder / "config.json").read_text())
    lm = Lm(LmConfig.from_config_dict(config))
    lm.load_pytorch_weights(str(folder / file))
    io = mx.load(str(folder / "io.safetensors"))
    assert isinstance(io, dict)
    return Golden(lm, io, _conditions(name, lm, io))


def _conditions(name: str, lm: Lm, io: dict[str, mx.array]) -> Conditions:
    attributes = {
        "lm_hibiki": ConditionAttributes({"description": "very_good"}),
        "lm_tts": ConditionAttributes({"control": "ok", "cfg": "2.0"}),
    }.get(name)
    if attributes is None or lm.condition_provider is None:
        return None, None
    if "speaker_wavs" in io:
        voice = TensorCondition(io["speaker_wavs"], io["speaker_mask"])
        attributes.tensor["speaker_wavs"] = voice
    return lm.condition_provider.fuse([attributes])
