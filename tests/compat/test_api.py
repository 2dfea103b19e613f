"""What moshi_mlx 0.3.0's users import, set and call, row by row."""

import subprocess
import sys
from importlib import import_module
from inspect import signature

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from moshi_mlx import models
from moshi_mlx.models.lm import DepFormerConfig, TransformerConfig
from tests.golden import golden
from tests.tiny import BASE, DATA, GREEDY, assert_close, codes, greedy, heard, lm, run

EXPORTS = {
    "moshi_mlx.models": "Lm LmConfig LmGen MimiConfig config1b_202412 "
    "config1b_202412_16rvq config_helium_1_preview_2b config_v0_1 generate lm mimi "
    "mimi_202407",
    "moshi_mlx.models.lm": "DepFormer DepFormerConfig DepFormerSlice Lm LmConfig "
    "ScaledEmbedding TransformerConfig config_v0_1",
    "moshi_mlx.models.generate": "LmGen",
    "moshi_mlx.models.mimi": "Mimi MimiConfig mimi_202407",
    "moshi_mlx.models.tts": "DEFAULT_DSM_TTS_REPO DEFAULT_DSM_TTS_VOICE_REPO Entry "
    "State StateMachine TTSModel TTSResult TokenIds script_to_entries",
    "moshi_mlx.modules": "Conv1d ConvDownsample1d ConvTrUpsample1d ConvTranspose1d "
    "EuclideanCodebook KVCache NormConv1d NormConvTranspose1d ProjectedTransformer "
    "RotatingKVCache SeanetConfig SeanetDecoder SeanetEncoder "
    "SplitResidualVectorQuantizer StreamableConv1d StreamableConvTranspose1d "
    "Transformer TransformerConfig",
    "moshi_mlx.modules.conditioner": "ConditionAttributes ConditionProvider "
    "ConditionTensor LutConditionerConfig TensorCondition TensorConditionerConfig "
    "dropout_all_conditions",
    "moshi_mlx.utils": "Sampler",
    "moshi_mlx.utils.loaders": "hf_get",
    "moshi_mlx.client_utils": "AnyPrinter Printer RawPrinter make_log",
}
STACK = {
    "d_model": 32,
    "num_heads": 4,
    "num_layers": 2,
    "causal": True,
    "norm_first": True,
    "bias_ff": False,
    "bias_attn": False,
    "layer_scale": None,
    "positional_embedding": "rope",
    "use_conv_block": False,
    "cross_attention": False,
    "conv_kernel_size": 3,
    "use_conv_bias": True,
    "gating": True,
    "norm": "rms_norm",
    "context": 8,
    "max_period": 10_000,
    "max_seq_len": 4096,
    "kv_repeat": 1,
    "dim_feedforward": 128,
    "conv_layout": False,
}


def flat(model: models.Lm) -> dict[str, mx.array]:
    tensors = tree_flatten(model.parameters(), destination={})
    assert isinstance(tensors, dict)
    return tensors


@pytest.mark.parametrize("module", EXPORTS)
def test_names_are_where_they_were(module):
    found = import_module(module)
    missing = [name for name in EXPORTS[module].split() if not hasattr(found, name)]
    assert not missing


def test_one_import_reaches_the_models_and_the_sampler():
    program = (
        "import moshi_mlx; moshi_mlx.models.mimi.mimi_202407(32); "
        "moshi_mlx.models.generate.LmGen; moshi_mlx.models.lm.Lm; "
        "moshi_mlx.utils.Sampler(top_k=25, temp=0.8); moshi_mlx.modules.KVCache"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_model_can_be_configured_field_by_field():
    cfg = models.LmConfig(
        transformer=TransformerConfig(**STACK),
        depformer=DepFormerConfig(
            TransformerConfig(**{**STACK, "positional_embedding": "none"}),
            num_slices=2,
        ),
        text_in_vocab_size=41,
        text_out_vocab_size=40,
        audio_vocab_size=25,
        audio_codebooks=4,
        audio_delays=[0, 1, 0, 1],
        conditioners={},
    )
    model = models.Lm(cfg)
    shapes = {name: w.shape for name, w in flat(model).items()}
    # Where feed-forward is 4 x the width, 0.3.0 made it 11/4 inside the gating.
    assert shapes["transformer.layers.0.gating.linear_in.weight"] == (2 * 88, 32)
    assert (cfg.generated_codebooks, cfg.other_codebooks) == (2, 2)
    assert cfg.audio_padding_token == 24
    tokens = run(greedy(model), heard(model, 1, 20))
    assert (tokens[:, 1:, cfg.max_delay :] >= 0).all()


def test_max_seq_len_can_be_set_and_context_rules():
    # Both official TTS scripts set it, and eight more public programs.
    results = []
    for max_seq_len in (4, 4096, None):
        model = lm()
        transformer = model.cfg.transformer
        transformer.max_seq_len = max_seq_len or transformer.context
        results.append(run(greedy(model), heard(model, 1, 4 * transformer.context)))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
    for preset in (models.config_v0_1(), models.config1b_202412()):
        preset.transformer.max_seq_len = preset.transformer.context
        assert preset.transformer.max_seq_len == 3000


def test_a_model_says_what_it_is():
    model = lm()
    assert (model.n_q, model.dep_q, model.audio_offset) == (6, 3, 1)
    assert model.delays == BASE["delays"][1:]
    assert model.cfg.audio_delays == model.delays
    assert model.condition_provider is None
    hibiki = golden("lm_hibiki").lm.condition_provider
    assert hibiki is not None
    assert "description" in hibiki.conditioners


def test_weights_load_from_a_path_or_a_list_and_from_pytorch(tmp_path):
    path = str(tmp_path / "model.safetensors")
    first, from_path, from_list = lm(seed=1), lm(seed=2), lm(seed=3)
    first.save_weights(path)
    from_path.load_weights(path, strict=True)
    from_list.load_weights(list(flat(first).items()), strict=True)
    frames = heard(first, 1, 10)
    wanted = run(greedy(first), frames)
    assert np.array_equal(run(greedy(from_path), frames), wanted)
    assert np.array_equal(run(greedy(from_list), frames), wanted)

    g = golden("lm_duplex")
    model = models.Lm(g.lm.cfg)
    path = str(DATA / "lm_duplex" / "model.safetensors")
    assert model.load_pytorch_weights(path, g.lm.cfg, strict=True) is model
    found = model.teacher_forced(g.io["forced_codes"]).text_logits
    assert_close(found, g.io["forced_text_logits"], 1e-4)


def test_run_tts_quantises_the_parts_that_it_names():
    model = lm()
    given = codes(BASE, 1, 20)
    wanted = model.teacher_forced(given)
    nn.quantize(model.depformer, bits=8, group_size=32)
    for layer in model.transformer.layers:
        nn.quantize(layer.self_attn, bits=8, group_size=32)
        nn.quantize(layer.gating, bits=8, group_size=32)
    names = flat(model)
    assert "transformer.layers.1.gating.linear_in.scales" in names
    assert "depformer.slices.2.linear_out.scales" in names
    assert "text_linear.scales" not in names
    found = model.teacher_forced(given)
    assert wanted.audio_logits is not None
    assert found.audio_logits is not None
    assert_close(found.text_logits, wanted.text_logits, 0.1)
    assert_close(found.audio_logits, wanted.audio_logits, 0.1)
    assert not mx.array_equal(found.text_logits, wanted.text_logits)


def test_the_cache_of_the_newest_generator_can_be_seen_and_reset():
    model = lm()
    frames = heard(model, 1, 3)
    gen = greedy(model)
    first = run(gen, frames)
    assert [c.self_attn.offset for c in model.transformer_cache] == [3, 3]
    for c in model.transformer_cache:
        c.reset()
    assert model.transformer_cache[0].self_attn.offset == 0
    assert np.array_equal(run(greedy(model), frames), first)
    assert model.transformer_cache[0].self_attn.offset == 3


def test_lm_gen_takes_0_3_0_s_arguments_in_its_order():
    names = (
        "model max_steps text_sampler audio_sampler batch_size cfg_coef check "
        "on_text_hook on_audio_hook"
    )
    assert list(signature(models.LmGen).parameters)[:9] == names.split()
    names = "self other_audio_tokens ct cross_attention_src"
    for method in (models.LmGen.step, models.LmGen.step_with_extra_heads):
        assert list(signature(method).parameters)[:4] == names.split()


def test_step_returns_a_pair():
    model = lm()
    gen = greedy(model, check=False)
    text, transformer_out = gen.step(heard(model, 1, 1)[:, :, 0])
    assert (text.shape, transformer_out.shape) == ((1, 1), (1, 1, 32))
    assert gen.last_audio_tokens() is None  # max_delay is 2
    for _ in range(2):
        text_token = gen.step(heard(model, 1, 1)[:, :, 0])
        text_token = text_token[0].item()
    audio = gen.last_audio_tokens()
    assert audio is not None
    assert (audio.shape, gen.main_codebooks) == ((1, 3), 3)
    assert (gen.zero_token, gen.ungenerated_token) == (-1, -2)


def test_extra_heads_come_as_a_list_of_probabilities():
    g = golden("lm_stt")
    gen = models.LmGen(g.lm, g.steps, GREEDY, GREEDY)
    for t in range(4):
        text, heads = gen.step_with_extra_heads(g.io["user_codes"][:, :, t])
        assert text.item() == g.io["step_text_tokens"][0, t].item()
        assert [head.shape for head in heads] == [(1, 1, 6)] * 4
        found = mx.stack([head[:, 0] for head in heads], axis=1)[0]
        assert_close(found, g.io["extra_heads"][0, t], 1e-4)


def test_hooks_edit_tokens_in_place():
    model = lm()
    shapes = set()

    def on_text(text_tokens: mx.array) -> None:
        shapes.add(text_tokens.shape)
        text_tokens[:] = 5

    def on_audio(audio_tokens: mx.array) -> None:
        shapes.add(audio_tokens.shape)
        audio_tokens[:, 1] = 7

    frames = heard(model, 1, 8)
    free = run(greedy(model), frames)
    told = run(greedy(model, on_text_hook=on_text, on_audio_hook=on_audio), frames)
    assert shapes == {(1, 1), (1, 3, 1)}
    assert (told[:, 0] == 5).all()
    assert (told[:, 2, 2:] == 7).all()
    assert not np.array_equal(free[:, 1], told[:, 1])  # and the model reads them
