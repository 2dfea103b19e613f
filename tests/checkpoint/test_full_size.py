"""Released models at their full widths, two layers deep: loaded, quantised, stepped.

The weights are random. What only shows at full size, does here: axes that no group of
weights divides, tables of 32,000 tokens, sixteen steps of the depth transformer.
"""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.quantize import describe
from tests.checkpoint.folders import load
from tests.released import MOSHI_7B, RELEASED
from tests.tiny import Config, greedy, number, pytorch_shapes

pytestmark = pytest.mark.slow
DEEP = {"num_layers": 2, "depformer_num_layers": 2}
FULL: dict[str, Config] = {
    name: RELEASED[name] | DEEP for name in ("moshi 7b", "stt 2.6b", "hibiki-zero 3b")
}
FULL["personaplex"] = MOSHI_7B | DEEP | {"model_type": "personaplex", "dep_q": 16}


def write_random(folder: Path, config: Config) -> Path:
    """A folder with bfloat16 weights under PyTorch's names."""
    rng = np.random.default_rng(0)
    noise = mx.array(rng.standard_normal(1 << 16).astype(np.float32))
    weights: dict[str, Any] = {}
    for name, shape in pytorch_shapes(config).items():
        size = int(np.prod(shape))
        scale = 1.0 if len(shape) != 2 else shape[-1] ** -0.5
        values = mx.tile(noise * scale, -(-size // noise.size))[:size]
        weights[name] = values.reshape(shape).astype(mx.bfloat16)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    return folder


@pytest.mark.parametrize("name", FULL)
def test_a_full_size_model_loads_quantised_and_steps(tmp_path, name):
    config = FULL[name]
    folder = write_random(tmp_path / "model", config)
    lm = load(folder, bits=4)
    decided = describe(lm)
    assert len(decided.layers) > 10 and not decided.kept, decided.kept
    assert CheckpointInfo.find(folder).lm_config.transformer.d_model == config["dim"]
    gen = greedy(lm)
    heard = mx.zeros((1, lm.cfg.other_codebooks), mx.int32)
    steps = [gen.step(heard)[0] for _ in range(lm.cfg.max_delay + 2)]
    assert all(0 <= number(text) < config["text_card"] for text in steps)
    if lm.dep_q:
        audio = gen.last_audio_tokens()
        assert audio is not None and audio.shape == (1, gen.main_codebooks)
