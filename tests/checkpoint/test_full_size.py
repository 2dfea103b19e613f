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

from moshi_mlx.checkpoint.build import load_image_encoder
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
VISION: Config = MOSHI_7B | DEEP | {"model_type": "moshi_vis"}
VISION["vision"] = {"num_hidden_layers": 2}  # the rest is as released


def write_random(
    folder: Path, config: Config, shapes: dict[str, tuple[int, ...]] | None = None
) -> Path:
    """A folder with bfloat16 weights under PyTorch's names."""
    rng = np.random.default_rng(0)
    noise = mx.array(rng.standard_normal(1 << 16).astype(np.float32))
    weights: dict[str, Any] = {}
    for name, shape in (shapes or pytorch_shapes(config)).items():
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


def seeing_shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of Kyutai's MoshiVis in PyTorch, two layers deep."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in pytorch_shapes(VISION).items():
        inside = name.startswith(("transformer.", "text_", "out_norm."))
        own = f"audio_{name}" if name.startswith(("emb.", "linears.")) else name
        shapes[f"llm.{name}" if inside else own] = shape
    wide, dim, inner = 4096, 1152, 4304
    for n in range(2):
        layer = f"llm.transformer.layers.{n}"
        shapes[f"{layer}.norm_cross.alpha"] = (1, 1, wide)
        gate = f"{layer}.cross_attention.gate.alpha"
        shapes[f"{gate}.0.weight"] = (wide // 8, wide)
        shapes[f"{gate}.2.weight"] = (wide, wide // 8)
    mha = "llm.transformer.layers.0.cross_attention.mha"
    shapes[f"{mha}.in_proj_weight"] = (3 * wide, wide)
    shapes[f"{mha}.out_proj.weight"] = (wide, wide)
    shapes["image_prefix.proj_xa.weight"] = (wide, dim)
    shapes["image_prefix.proj_xa.bias"] = (wide,)
    shapes["image_prefix.norm_xa.alpha"] = (1, 1, wide)
    tower = "image_prefix.enc.model"
    shapes[f"{tower}.embeddings.patch_embedding.weight"] = (dim, 3, 14, 14)
    shapes[f"{tower}.embeddings.patch_embedding.bias"] = (dim,)
    shapes[f"{tower}.embeddings.position_embedding.weight"] = (1024, dim)
    parts = {f"self_attn.{p}_proj": (dim, dim) for p in ("q", "k", "v", "out")}
    parts |= {"mlp.fc1": (inner, dim), "mlp.fc2": (dim, inner)}
    for n in range(2):
        layer = f"{tower}.encoder.layers.{n}"
        for part, shape in parts.items():
            shapes[f"{layer}.{part}.weight"] = shape
            shapes[f"{layer}.{part}.bias"] = shape[:1]
        for part in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{layer}.{part}.{end}": (dim,) for end in ("weight", "bias")}
    ends = ("weight", "bias")
    return shapes | {f"{tower}.post_layernorm.{end}": (dim,) for end in ends}


def test_a_full_size_model_that_sees_loads_quantised_and_steps(tmp_path):
    folder = write_random(tmp_path / "model", VISION, seeing_shapes())
    info = CheckpointInfo.find(folder)
    encoder = load_image_encoder(info)
    assert encoder is not None
    pixels = mx.array(np.random.default_rng(0).uniform(-1, 1, (1, 112, 112, 3)))
    source = encoder(pixels)  # a sixteenth of an image: positions are resampled
    assert source.shape == (1, 64, 4096)
    lm = load(folder, bits=4)
    decided = describe(lm)
    assert "transformer.cross_attention.in_proj" in decided.layers
    assert not decided.kept, decided.kept
    gen, heard = greedy(lm), mx.zeros((1, 8), mx.int32)
    for _ in range(lm.cfg.max_delay + 2):
        gen.step(heard, cross_attention_src=source)
    assert gen.gate is not None and 0 < number(gen.gate) < 1
    audio = gen.last_audio_tokens()
    assert audio is not None and audio.shape == (1, 8)
