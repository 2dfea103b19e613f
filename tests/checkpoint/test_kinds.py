"""What a checkpoint can do follows from its config.json alone."""

import pytest

from moshi_mlx.checkpoint.helium import HELIUM_2B
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.kinds import EndRule, kind_of
from moshi_mlx.checkpoint.moshi_7b import MOSHI_7B
from moshi_mlx.errors import ConfigError

STT = {
    **MOSHI_7B,
    "dep_q": 0,
    "n_q": 32,
    "stt_config": {
        "audio_delay_seconds": 2.5,
        "audio_silence_prefix_seconds": 1.0,
    },
}
ABILITIES = ("listens", "converses", "translates", "transcribes", "speaks", "writes")


def abilities(config: dict) -> set[str]:
    kind = kind_of(config)
    return {name for name in ABILITIES if getattr(kind, name)}


@pytest.mark.parametrize(
    "config, name, engine, can",
    [
        (MOSHI_7B, "moshi", "duplex", {"listens", "converses"}),
        (
            MOSHI_7B | {"moshi_name": "hibiki-x.safetensors"},
            *("hibiki", "duplex", {"listens", "translates"}),
        ),
        (STT, "stt", "stt", {"listens", "transcribes"}),
        (
            MOSHI_7B | {"dep_q": 32, "n_q": 32, "tts_config": {"audio_delay": 1.28}},
            *("tts", "tts", {"speaks"}),
        ),
        (HELIUM_2B, "helium", "text", {"writes"}),
        ({"model_type": "mimi"}, "mimi", "codec", set()),
    ],
)
def test_each_kind_is_told_by_its_config(config, name, engine, can):
    kind = kind_of(config)
    assert (kind.name, kind.engine) == (name, engine)
    assert abilities(config) == can


def test_endings_are_as_the_models_were_trained():
    assert kind_of(STT).ending == EndRule("delay", 1.0, 3.5)
    assert kind_of(MOSHI_7B).ending == EndRule("quiet")
    assert kind_of(MOSHI_7B | {"lead_in_s": 0.6}).ending == EndRule("quiet", 0.6)
    hibiki = MOSHI_7B | {"model_type": "hibiki"}
    told = hibiki | {"conditioners": {"description": {}}}
    assert kind_of(told).ending == EndRule("own", tail_s=60.0)
    assert kind_of(told).conditions == ("very_good", "very_bad")
    assert kind_of(hibiki).ending.silent_start
    assert kind_of(hibiki).conditions is None


def test_sampling_is_the_checkpoints_where_it_says_so():
    own = kind_of(MOSHI_7B | {"lm_gen_config": {"temp": 0.5, "top_k_text": 3}}).sampling
    assert (own.temp, own.top_k, own.temp_text, own.top_k_text) == (0.5, 250, 0.7, 3)
    assert own.cfg_coef == 1.0


def test_a_lack_is_said_with_what_to_use_instead():
    with pytest.raises(ConfigError, match=r"x is a moshi model .*hibiki-1b-mlx-bf16"):
        kind_of(MOSHI_7B).check("translates", "x")
    kind_of(MOSHI_7B).check("converses", "x")


def test_the_demo_converses():
    kind = CheckpointInfo.find("demo").kind
    assert kind.converses and kind.sampling.temp == 0.5
