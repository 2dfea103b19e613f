"""Released models, narrowed: every recipe quantises each, and what it writes loads."""

import json
from typing import Any

import mlx.core as mx
import pytest

from moshi_mlx.checkpoint.build import open_lm
from moshi_mlx.checkpoint.cost import cost
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.outline import share_sets
from moshi_mlx.checkpoint.quantize import describe, quantize, stated_choice
from moshi_mlx.checkpoint.recipes import recipe_named
from moshi_mlx.checkpoint.save import save
from moshi_mlx.models import Lm, LmConfig
from tests.checkpoint.folders import assert_equal, load, write
from tests.released import RELEASED

NARROW: dict[str, Any] = {
    "dim": 256,
    "num_heads": 4,
    "num_layers": 2,
    "text_card": 64,
    "card": 40,
    "context": 8,
    "depformer_dim": 64,
    "depformer_num_heads": 2,
    "depformer_num_layers": 1,
    "depformer_dim_feedforward": 288,
}
RECIPES = ["q4", "q8", "mixed", "nvfp4", "mxfp4"]


def narrow(name: str) -> dict[str, Any]:
    """A released config.json with all its features, 256 wide."""
    config = {**RELEASED[name], **NARROW}
    if config.get("depformer_low_rank_embeddings"):
        config["depformer_low_rank_embeddings"] = 64
    return config


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", RELEASED)
def test_every_recipe_quantises_it_and_loads_again(tmp_path, name, recipe):
    source = write(tmp_path / "source", config=narrow(name))
    lm = open_lm(CheckpointInfo.find(source), as_stored=True)
    full = cost(lm)
    decided = quantize(lm, recipe=recipe_named(recipe))
    assert not decided.kept, "as in the released widths, everything divides"
    out = save(tmp_path / "out", lm, narrow(name))
    block = json.loads((out / "config.json").read_text())["quantization"]
    named = {path: stated_choice(block, path) for path in decided.layers}
    assert named == decided.layers
    assert cost(lm).nbytes < 0.5 * full.nbytes
    again = load(out, as_stored=True)
    assert describe(again).layers == decided.layers
    assert_equal(again, lm)


@pytest.mark.parametrize("name", RELEASED)
def test_it_weighs_as_much_told_from_its_config_as_loaded(tmp_path, name):
    supposed = Lm(LmConfig.from_config_dict(narrow(name)))
    share_sets(supposed)
    found = cost(load(write(tmp_path, config=narrow(name))))
    told = cost(supposed)
    assert told.nbytes == pytest.approx(found.nbytes, rel=0.01)
    assert told.step_bytes == pytest.approx(found.step_bytes, rel=0.01)


def test_the_speaking_model_weighs_what_its_published_file_does():
    lm = Lm(LmConfig.from_config_dict(RELEASED["tts 1.6b"]))
    lm.set_dtype(mx.bfloat16)
    assert lm.condition_provider is not None
    lm.condition_provider.set_dtype(mx.float32)
    share_sets(lm)
    assert cost(lm).nbytes == pytest.approx(3_683_719_712, rel=1e-3)
