"""A config.json with values that cannot be is refused in one sentence."""

import pytest

from moshi_mlx.errors import ConfigError
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.mimi_config import MimiConfig
from tests.tiny import BASE, Config
from tests.tiny_mimi import TINY, changed


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"dim": None}, "no 'dim'"),
        ({"dim": "big"}, "dim 'big': give a whole number from 1"),
        ({"dim": -4}, "dim -4"),
        ({"context": 0}, "context 0"),
        ({"num_layers": 2.5}, "num_layers 2.5"),
        ({"depformer_dim": True}, "depformer_dim True"),
        ({"hidden_scale": 0}, "hidden_scale 0: give a number above 0"),
        ({"delays": "00"}, "delays '00': give a list"),
        ({"delays": [0, 0, 1, 2, 0, 1, -2]}, "delays"),
        ({"depformer_dim_feedforward": []}, "depformer_dim_feedforward"),
        ({"conditioners": ["mood"]}, "conditioners .*: give an object"),
        ({"conditioners": {"mood": {}}}, "conditioner 'mood' of type None"),
        ({"conditioners": {"mood": {"type": "lut"}}}, "'mood' has no 'n_bins'"),
        ({"lm_gen_config": [1]}, "lm_gen_config"),
        ({"lm_gen_config": {"temp": "hot"}}, "temp 'hot': give a number"),
        ({"lm_gen_config": {"top_k": 2.5}}, "top_k 2.5"),
        ({"moshi_name": 5}, "moshi_name 5: give a file name"),
    ],
)
def test_values_that_cannot_be_are_named(changes: Config, words: str):
    with pytest.raises(ConfigError, match=words):
        LmConfig.from_config_dict({**BASE, **changes})


@pytest.mark.parametrize(
    "part, changes, words",
    [
        (None, {"sample_rate": None}, "sample_rate None: give a number above 0"),
        (None, {"frame_rate": 0}, "frame_rate 0"),
        (None, {"quantizer": []}, r"quantizer \[\]: give an object"),
        ("seanet", {"ratios": []}, r"ratios \[\]: give a list"),
        ("seanet", {"n_filters": 0}, "n_filters 0: give a whole number from 1"),
        ("quantizer", {"bins": None}, "bins None"),
        ("quantizer", {"n_q": 0}, "n_q 0"),
        ("transformer", {"d_model": -8}, "d_model -8"),
        ("transformer", {"context": 0}, "context 0"),
        ("transformer", {"output_dimensions": None}, "output_dimensions None"),
    ],
)
def test_values_that_cannot_be_a_codec_are_named(part, changes, words):
    data = {**TINY, **changes} if part is None else changed(**{part: changes})
    with pytest.raises(ConfigError, match=words):
        MimiConfig.from_config_dict(data)


def test_a_quantisation_may_hold_notes_of_other_programs():
    block = {"bits": 4, "group_size": 64, "method": "x", "a.b": False, "c": {"bits": 8}}
    assert LmConfig.from_config_dict({**BASE, "quantization": block})
