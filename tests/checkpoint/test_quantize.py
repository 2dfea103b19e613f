"""Layers are chosen, named where they are left, and what was chosen is written down."""

import mlx.core as mx
import mlx.nn as nn
import pytest

from moshi_mlx.checkpoint.quantize import (
    Choice,
    Quantization,
    describe,
    quantize,
    stated_choice,
)
from moshi_mlx.errors import ConfigError
from moshi_mlx.models.lm import Lm
from tests.checkpoint.folders import load, tensors, write
from tests.tiny import BASE, CONDITIONED, Config, assert_close, codes
from tests.tiny import lm as tiny_lm

WIDE: Config = {"dim": 64, "depformer_dim": 64, "depformer_dim_feedforward": 192}
MODES = [
    Choice.of(2),
    Choice.of(3),
    Choice.of(4),
    Choice.of(5, 32),
    Choice.of(6, 32),
    Choice.of(8),
    Choice.of(mode="mxfp4"),
    Choice.of(mode="nvfp4"),
    Choice.of(mode="mxfp8"),
]


def logits(lm: Lm) -> mx.array:
    out = lm.teacher_forced(codes({**BASE, **WIDE}, 1, 12))
    assert out.audio_logits is not None
    return mx.concatenate([out.text_logits.reshape(-1), out.audio_logits.reshape(-1)])


def rounded(w: mx.array, choice: Choice) -> mx.array:
    """A matrix as it comes out of quantisation."""
    group_size, bits, mode = choice.group_size, choice.bits, choice.mode
    packed = mx.quantize(w, group_size, bits, mode)
    whole = mx.dequantize(*packed, group_size=group_size, bits=bits, mode=mode)
    return whole.astype(mx.float32)


@pytest.mark.parametrize("choice", MODES, ids=str)
def test_a_quantised_model_computes_with_the_rounded_weights(choice: Choice):
    lm, dense = tiny_lm(**WIDE), tiny_lm(**WIDE)
    result = quantize(lm, choice.bits, choice.group_size, choice.mode)
    assert len(result.layers) > 40
    for path, layer in dense.named_modules():
        if path in result.layers:
            used = result.layers[path]
            layer["weight"] = rounded(layer["weight"], used)
    assert_close(logits(lm), logits(dense), 1e-4)
    assert not mx.allclose(logits(lm), logits(tiny_lm(**WIDE)), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("mode", ["mxfp4", "nvfp4", "mxfp8"])
def test_tables_are_affine_also_under_floating_modes(mode):
    lm = tiny_lm(**WIDE)
    quantize(lm, mode=mode)
    assert isinstance(lm.text_emb, nn.QuantizedEmbedding)
    assert lm.text_emb.mode == "affine"
    assert lm.text_emb(mx.array([3])).dtype == mx.float32
    assert isinstance(lm.text_linear, nn.QuantizedLinear)
    assert lm.text_linear.mode == mode


def test_embeddings_keep_their_zero_token():
    lm = tiny_lm()
    quantize(lm, 4)
    assert isinstance(lm.text_emb, nn.QuantizedEmbedding)
    zero = lm.text_emb(mx.array([[-1, 5]]))
    assert not zero[0, 0].any()
    assert zero[0, 1].any()


def test_layers_that_do_not_divide_are_kept_and_named():
    config = {"depformer_dim": 36, "depformer_num_heads": 1}
    lm = tiny_lm(**config)
    result = quantize(lm, 4)
    name = "depformer.slices.0.linear_out"
    assert result.kept[name] == "width 36 is not a multiple of 32"
    assert "text_linear" in result.layers
    assert "scales" not in lm.depformer.slices[0].linear_out
    assert result.to_config()[name] is False


def test_conditioners_stay_as_they_are():
    lm = tiny_lm(**CONDITIONED)
    result = quantize(lm, 4)
    names = [*result.layers, *result.kept]
    assert not any(name.startswith("condition_provider") for name in names)
    assert lm.condition_provider is not None
    assert "scales" not in lm.condition_provider.conditioners["mood"].output_proj


def test_a_recipe_decides_layer_by_layer():
    def recipe(path: str, layer: nn.Module) -> Choice | None:
        if path.startswith("depformer"):
            return None
        return Choice(32, 8 if path == "text_linear" else 4)

    lm = tiny_lm()
    result = quantize(lm, recipe=recipe)
    assert result.uniform is None
    assert isinstance(lm.text_linear, nn.QuantizedLinear)
    assert lm.text_linear.bits == 8
    block = result.to_config()
    assert (block["bits"], block["group_size"], block["mode"]) == (4, 32, "affine")
    assert block["text_linear"]["bits"] == 8
    assert block["depformer.slices.0.linear_in"] is False
    assert describe(lm).layers == result.layers
    assert describe(lm).to_config() == block


def test_the_block_says_of_each_layer_what_was_chosen():
    layers = {"a": Choice(32, 4), "b": Choice(64, 8), "c": Choice(32, 4)}
    block = Quantization(layers, {"d": "narrow"}).to_config()
    assert {path: stated_choice(block, path) for path in "abc"} == layers
    assert stated_choice(block, "d") is None
    assert stated_choice({}, "a") is None
    assert Quantization().to_config() == {}
    assert Quantization(dict.fromkeys("ab", Choice(32, 4))).uniform == Choice(32, 4)


def test_a_block_of_mlx_lm_without_mode_is_affine():
    assert stated_choice({"group_size": 64, "bits": 4}, "x") == Choice(64, 4)


@pytest.mark.parametrize(
    "choice, sentence",
    [
        ((32, 7, "affine"), "7 bits in groups of 32 cannot be computed: use 2, 3"),
        ((48, 4, "affine"), "groups of 48 cannot"),
        ((32, 4, "fp3"), "mode 'fp3' is unknown"),
        ((64, 4, "mxfp4"), "mxfp4 .* only exists with 4 bits in groups of 32"),
    ],
)
def test_what_mlx_cannot_do_is_said(choice, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Choice(*choice)


def test_a_quantised_model_is_not_quantised_again():
    lm = tiny_lm()
    quantize(lm, 4)
    with pytest.raises(ConfigError, match="quantised already"):
        quantize(lm, 4)


def test_equal_layers_share_memory_after_quantisation(tmp_path):
    folder = write(tmp_path, depformer_weights_per_step_schedule=[0, 1, 1])
    lm = load(folder)
    quantize(lm, 4)
    layers = [s.transformer.layers[0].self_attn.in_proj for s in lm.depformer.slices]
    for part in ("weight", "scales", "biases"):
        assert layers[2][part] is layers[1][part]
        assert layers[1][part] is not layers[0][part]


def test_quantising_holds_little_more_than_the_source():
    wide: Config = {"dim": 256, "text_card": 8000, "num_layers": 6}
    lm = tiny_lm(**wide)
    mx.eval(lm.parameters())
    size = sum(w.nbytes for w in tensors(lm).values())
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    quantize(lm, 4)
    assert mx.get_peak_memory() - before < 0.3 * size
    assert mx.get_active_memory() - before < -0.5 * size


def test_hibiki_s_end_of_sentence_stays_padding(tmp_path):
    lm = load(write(tmp_path, model_type="hibiki"))
    exact = load(tmp_path, as_stored=True)
    quantize(lm, 4)
    quantize(exact, 4)
    two, three = mx.array([2]), mx.array([3])
    assert mx.array_equal(lm.text_emb(two), lm.text_emb(three))
    assert_close(lm.text_emb(three), exact.text_emb(three))
    assert not mx.array_equal(exact.text_emb(two), exact.text_emb(three))
