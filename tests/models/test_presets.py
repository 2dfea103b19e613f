"""Presets, made small: what programs written for moshi_mlx 0.3.0 do with them."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest

from moshi_mlx.models import Lm, LmConfig, LmGen, presets
from moshi_mlx.utils.sampling import Sampler
from tests.tiny import BASE, parameters

pytestmark = pytest.mark.usefixtures("uncompiled")
Preset = Callable[[], LmConfig]
PRESETS: list[Preset] = [
    presets.config_v0_1,
    presets.config1b_202412,
    presets.config1b_202412_16rvq,
    presets.config_helium_1_preview_2b,
]


def small(preset: Preset) -> LmConfig:
    """The same streams and delays over a network of 64 channels."""
    cfg = preset()
    for stack in (cfg.transformer, cfg.depformer.transformer):
        stack.d_model, stack.num_heads, stack.num_layers = 64, 4, 2
        stack.dim_feedforward = 192  # 128 inside
    text = cfg.text_in_vocab_size - cfg.text_out_vocab_size
    cfg.text_out_vocab_size, cfg.text_in_vocab_size = 100, 100 + text
    cfg.audio_vocab_size = 65
    return cfg


@pytest.mark.parametrize("bits, group", [(4, 32), (8, 64)])
@pytest.mark.parametrize("preset", PRESETS)
def test_the_call_sequence_of_0_3_0(
    preset: Preset, bits: int, group: int, tmp_path: Path
):
    """Quantise an empty model, load quantised weights strictly, warm up, step."""
    source = Lm(small(preset))
    nn.quantize(source, bits=bits, group_size=group)
    source.save_weights(str(tmp_path / "model.safetensors"))
    cfg = small(preset)
    cfg.transformer.max_seq_len = cfg.transformer.context
    lm = Lm(cfg)
    lm.set_dtype(mx.bfloat16)
    nn.quantize(lm, bits=bits, group_size=group)
    lm.load_weights(str(tmp_path / "model.safetensors"), strict=True)
    lm.warmup()
    gen = LmGen(
        model=lm,
        max_steps=8,
        text_sampler=Sampler(),
        audio_sampler=Sampler(top_k=250),
        check=False,
    )
    for _ in range(4):
        text, _ = gen.step(mx.zeros((1, cfg.other_codebooks), mx.int32))
        assert 0 <= int(text.item()) < 100  # type: ignore[arg-type]
    audio = gen.last_audio_tokens()
    assert audio is not None and audio.shape == (1, cfg.generated_codebooks)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_table_and_matrix_can_be_quantised(preset: Preset):
    lm = Lm(small(preset))
    full = [name for name, w in parameters(lm).items() if w.ndim == 2]
    nn.quantize(lm, bits=4, group_size=32)
    quantised = {n for n, w in parameters(lm).items() if w.dtype == mx.uint32}
    assert quantised == set(full)


def test_norms_of_hand_built_configs_have_0_3_0_s_epsilon():
    lm = Lm(small(presets.config_v0_1))
    layer = lm.transformer.layers[0]
    assert {norm.eps for norm in (lm.out_norm, layer.norm1, layer.norm2)} == {1e-8}
    read = Lm(LmConfig.from_config_dict({**BASE, "norm": "rms_norm"}))
    assert (read.out_norm.eps, read.transformer.layers[0].norm1.eps) == (1e-5, 1e-5)


def test_a_preset_is_new_at_every_call():
    first = presets.config_v0_1()
    first.audio_delays[0] = 9
    first.transformer.context = 1
    assert presets.config_v0_1().audio_delays[0] == 0
    assert presets.config_v0_1().transformer.context == 3000
