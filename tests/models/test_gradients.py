"""Training: gradients of teacher forcing, against PyTorch's and finite differences."""

import json
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from moshi_mlx.models import Lm
from moshi_mlx.models import lm as lm_module
from moshi_mlx.models.depformer import DepFormer
from moshi_mlx.models.keys import pytorch_rules
from moshi_mlx.modules.transformer import TransformerLayer
from moshi_mlx.utils.remap import remap
from tests import tiny
from tests.learning import (
    LORA,
    golden,
    gradients,
    loss,
    losses,
    norm,
    tuned,
    with_adapters,
)
from tests.stacks import stack, wave
from tests.tiny import (
    BASE,
    CONDITIONED,
    assert_close,
    greedy,
    heard,
    number,
    parameters,
    run,
)
from tests.tiny_mimi import golden_mimi


@pytest.mark.parametrize("step", [1, 2])
def test_gradients_of_adapters_are_pytorch_s(step: int):
    lm, codes = tuned(step - 1), golden("io")[f"codes{step - 1}"]
    told = json.loads((LORA / "train.json").read_text())["steps"][step - 1]
    text, audio = losses(lm, codes)
    assert number(text) == pytest.approx(told["text_loss"], rel=1e-4)
    assert number(audio) == pytest.approx(told["audio_loss"], rel=1e-4)
    value, found = gradients(lm, loss, codes)
    assert value == pytest.approx(told["total_loss"], rel=1e-4)
    assert norm(found.values()) == pytest.approx(told["grad_norm"], rel=1e-4)
    theirs = {
        name.removeprefix(f"step{step}."): g
        for name, g in golden("gradients").items()
        if name.startswith(f"step{step}.")
    }
    expected = remap(theirs, pytorch_rules(lm.cfg), "gradients")
    assert len(expected) == len(found) == 178
    for name, gradient in expected.items():
        mine = found[name.removesuffix(".weight")]
        largest = number(mx.abs(gradient).max())
        assert (largest == 0) is (step == 1 and "lora_A" in name)  # B is 0 then
        assert number(mx.abs(mine - gradient).max()) <= 1e-3 * largest, name


def slope(
    module: nn.Module, function: Callable[..., mx.array], step: float, *args: Any
) -> tuple[float, float]:
    """Of ``function`` along a random direction: by gradients, and by differences."""
    before = module.trainable_parameters()
    direction = tree_map(lambda w: mx.random.normal(w.shape) * w.std(), before)
    _, found = gradients(module, function, *args)
    flat: Any = tree_flatten(direction)
    by_gradients = sum(number((found[name] * d).sum()) for name, d in flat)
    ends = []
    for sign in (1, -1):
        moved = tree_map(lambda w, d, s=sign: w + s * step * d, before, direction)
        module.update(moved)
        ends.append(number(function(module, *args)))
    module.update(before)
    return by_gradients, (ends[0] - ends[1]) / (2 * step)


MODELS: dict[str, dict[str, Any]] = {
    "released": {},
    "grouped": {"kv_repeat": 2, "positional_embedding": "sin_rope"},
    "scaled": {"layer_scale": 0.3, "depformer_layer_scale": 0.3, "norm": "layer_norm"},
    "plain": {"gating": "none", "positional_embedding": "none"},
    "conditioned": CONDITIONED,
    "text alone": {"dep_q": 0},
    "low rank": {"depformer_low_rank_embeddings": 8, "depformer_norm": "rms_norm_f32"},
}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_every_weight_are_finite_differences(name: str):
    lm = tiny.lm(**MODELS[name])
    conditions: tuple = ()
    if lm.condition_provider is not None:
        ct = lm.condition_provider.condition_tensor("mood", "glad")
        conditions = ct, mx.random.normal((2, 4, BASE["dim"]))
    codes = tiny.codes({**BASE, **MODELS[name]}, 2, 12, missing=0.1)
    found, expected = slope(lm, loss, 2e-3, codes, *conditions)
    assert found == pytest.approx(expected, rel=1e-2)
    _, each = gradients(lm, loss, codes, *conditions)
    still = {name for name, g in each.items() if not mx.any(g).item()}
    assert not {n for n in still if not n.startswith("condition_provider")}


def squares(module: nn.Module, x: mx.array) -> mx.array:
    y: Any = module(x)
    return mx.square(y[0] if isinstance(y, list) else y).mean()


@pytest.mark.parametrize("part", ["encoder", "decoder", "encoder_transformer"])
def test_the_codec_s_networks_differentiate_too(part: str):
    mimi = golden_mimi()
    frames, dim = 4, mimi.cfg.seanet.dimension
    shape = (1, frames * mimi.frame_size, 1) if part == "encoder" else (1, 8, dim)
    module = getattr(mimi, part)
    found, expected = slope(module, squares, 1e-3, mx.random.normal(shape))
    assert found == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("name", ["upsample", "downsample"])
def test_resampling_differentiates(name: str):
    mimi = golden_mimi()
    module = getattr(mimi, name)
    x = mx.random.normal((1, 8, mimi.cfg.seanet.dimension))
    found, expected = slope(module, squares, 1e-2, x)
    assert found == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("positions", ["rope", "rope_concat", "sin"])
def test_gradients_reach_the_input_of_a_stack(positions: str):
    module = stack(positional_embedding=positions)
    x, d = wave(2, 9), wave(2, 9, seed=1)

    def value(x: mx.array) -> mx.array:
        return squares(module, x)

    found = number((mx.grad(value)(x) * d).sum())
    step = 1e-2
    ends = [number(value(x + sign * step * d)) for sign in (1, -1)]
    assert found == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-2)


def test_gradients_in_bfloat16_are_float32_s():
    lm, codes = tiny.lm(), tiny.codes(BASE, 2, 12)
    lm.set_dtype(mx.bfloat16)
    _, half = gradients(lm, loss, codes)
    lm.set_dtype(mx.float32)  # of the same, rounded weights
    _, full = gradients(lm, loss, codes)
    assert {g.dtype for g in half.values()} == {mx.bfloat16}
    error = norm(half[name] - g for name, g in full.items())
    assert error < 0.05 * norm(full.values())


@pytest.mark.parametrize("mode, bits", [("affine", 4), ("affine", 8), ("mxfp4", 4)])
def test_gradients_of_adapters_over_quantised_weights(mode: str, bits: int):
    def adapted(quantise: bool) -> Lm:
        lm = tiny.lm()
        nn.quantize(lm, 32, bits, mode=mode)
        if not quantise:
            floats = tiny.lm()
            weights = []
            for name, layer in lm.named_modules():
                if "scales" in layer:
                    parts = (layer["weight"], layer["scales"], layer.get("biases"))
                    w = mx.dequantize(*parts, 32, bits, mode=mode, dtype=mx.float32)
                    weights.append((f"{name}.weight", w))
            floats.load_weights(weights, strict=False)
            lm = floats
        rng, halves = mx.random.key(1), {}
        for name, layer in lm.named_modules():
            if isinstance(layer, nn.Linear | nn.QuantizedLinear):
                rows, columns = layer["weight"].shape
                columns = columns * 32 // bits if quantise else columns
                rng, one, two = mx.random.split(rng, 3)
                halves |= {
                    f"{name}.lora_A.weight": mx.random.normal((4, columns), key=one),
                    f"{name}.lora_B.weight": mx.random.normal((rows, 4), key=two) * 0.1,
                }
        with_adapters(lm, halves, 2.0)
        return lm

    codes = tiny.codes(BASE, 2, 8)
    value, found = gradients(adapted(True), loss, codes)
    expected_value, expected = gradients(adapted(False), loss, codes)
    assert value == pytest.approx(expected_value, rel=1e-5)
    assert found.keys() == expected.keys()
    assert all("lora_" in name for name in found)
    error = norm(found[name] - gradient for name, gradient in expected.items())
    assert error < 1e-4 * norm(expected.values())


def test_chunks_of_a_long_sequence_give_the_gradients_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
):
    lm, codes = tiny.lm(), tiny.codes(BASE, 2, 17)
    value, whole = gradients(lm, loss, codes)
    monkeypatch.setattr(lm_module, "CHUNK", 6)
    again, parts = gradients(lm, loss, codes)
    assert again == pytest.approx(value, rel=1e-6)
    for name, gradient in whole.items():
        assert_close(parts[name], gradient, 1e-4)


def test_a_model_learns_and_says_what_it_learnt():
    """Train after generating, and generate after training."""
    lm = tiny.lm(delays=[0] * 7)
    frames = heard(lm, 1, 8)
    before = run(greedy(lm), frames)
    codes = tiny.codes(BASE, 1, 6)
    first, _ = gradients(lm, loss, codes)
    for _ in range(8):
        _, found = gradients(lm, loss, codes)
        rate = 0.5 / norm(found.values())
        now = parameters(lm)
        lm.update(tree_unflatten([(k, now[k] - rate * g) for k, g in found.items()]))
    last, _ = gradients(lm, loss, codes)
    assert last < first - 0.5
    after = run(greedy(lm), frames)
    assert (before != after).any()
    other = Lm(lm.cfg)
    other.load_weights(list(parameters(lm).items()))
    assert (run(greedy(other), frames) == after).all()


@pytest.mark.slow  # on CPU each fused operation is compiled by g++
def test_a_compiled_step_gives_the_plain_gradients():
    lm = tiny.lm(num_layers=1, n_q=2, dep_q=1, delays=[0, 0, 1])
    codes = tiny.codes({**BASE, "n_q": 2}, 2, 8)
    _, plain = gradients(lm, loss, codes)
    step = nn.value_and_grad(lm, lambda codes: loss(lm, codes))
    _, found = mx.compile(step, inputs=lm.state)(codes)
    flat: Any = tree_flatten(found)
    assert dict(flat).keys() == plain.keys()
    for name, gradient in flat:
        assert_close(gradient, plain[name], 1e-5)


def checkpointed(call: Callable[..., mx.array]) -> Callable[..., mx.array]:
    """A module's call that keeps nothing for its gradients, as mlx-lm does it."""

    def inner(self: nn.Module, x: mx.array, *rest: Any) -> mx.array:
        def of_arrays(parameters: Any, x: mx.array) -> mx.array:
            self.update(parameters)
            return call(self, x, *rest)

        return mx.checkpoint(of_arrays)(self.trainable_parameters(), x)

    return inner


def test_layers_and_depth_transformer_may_be_checkpointed(
    monkeypatch: pytest.MonkeyPatch,
):
    """Layers of a whole sequence, and the depth transformer as a whole: its layers
    keep keys and values in a cache from step to step."""
    lm, codes = tiny.lm(), tiny.codes(BASE, 2, 8)
    _, plain = gradients(lm, loss, codes)

    class Layer(TransformerLayer):
        __call__ = checkpointed(TransformerLayer.__call__)

    for layer in lm.transformer.layers:
        assert type(layer) is TransformerLayer
        layer.__class__ = Layer
    forced = checkpointed(DepFormer.teacher_forced)
    monkeypatch.setattr(DepFormer, "teacher_forced", forced)
    _, found = gradients(lm, loss, codes)
    for name, gradient in plain.items():
        assert_close(found[name], gradient, 1e-5)
