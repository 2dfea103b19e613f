"""The door: a network made ready computes the same, and stays as it was."""

import copy
import pickle
import weakref
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_unflatten

from moshi_mlx import fast
from moshi_mlx.fast import ops
from moshi_mlx.models import Lm
from moshi_mlx.modules.mlp import MlpGating
from moshi_mlx.modules.transformer import Transformer, TransformerLayer
from tests import tiny, vision
from tests.stacks import config, stack, wave
from tests.tiny import BASE, CONDITIONED, assert_close, heard, number, parameters, run
from tests.tiny_mimi import golden_io, golden_mimi

WAYS: dict[str, dict[str, Any]] = {
    "released": {},
    "grouped": {"kv_repeat": 2, "positional_embedding": "sin_rope"},
    "scaled": {"layer_scale": 0.3, "depformer_layer_scale": 0.3, "norm": "layer_norm"},
    "plain": {"gating": "none", "positional_embedding": "none"},
    "conditioned": CONDITIONED,
    "low rank": {"depformer_low_rank_embeddings": 8, "depformer_norm": "rms_norm_f32"},
    "scheduled": {"depformer_weights_per_step_schedule": [0, 1, 1]},
}
FORMS = pytest.mark.parametrize("form", ["cpu", "gpu"])


@pytest.fixture(autouse=True)
def uncompiled():
    """Run compiled functions as written: test_compiled.py tests them."""
    mx.disable_compile()
    yield
    mx.enable_compile()


def use(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if form == "gpu":  # the arithmetic of a GPU, on CPU
        monkeypatch.setattr(ops, "on_gpu", lambda: True)


def logits(network: Lm, ct=None, cross=None) -> list[mx.array]:
    """Of steps of one position and of more, row 1 pausing: text, then codebooks."""
    cache, found = network.transformer.make_rot_cache(), []
    codes = tiny.codes(BASE, 2, 14, missing=0.1)
    for start, end in [(0, 1), (1, 6), *((t, t + 1) for t in range(6, 14))]:
        now, active = codes[:, :, start:end], [True, start % 3 != 2]
        hidden = network.hidden(now[:, 0], now[:, 1:], cache, ct, cross, active)
        seen = hidden[:, -1:] if active[1] else hidden[:1, -1:]
        found.append(network.text_logits(seen))

        def choose(_: int, x: mx.array) -> mx.array:
            found.append(x)
            return (mx.arange(len(x))[:, None] * 7 + start) % BASE["card"]  # noqa: B023

        network.depformer(seen, now[: len(seen), 0, -1:], choose)
    return [x.astype(mx.float32) for x in found]


@FORMS
@pytest.mark.parametrize("name", WAYS)
def test_a_network_made_ready_gives_the_same_logits(name, form, monkeypatch):
    use(form, monkeypatch)
    lm = tiny.lm(**WAYS[name])
    ct = cross = None
    if lm.condition_provider is not None:
        ct = lm.condition_provider.condition_tensor("mood", "glad")
        cross = mx.random.normal((2, 4, BASE["dim"]))
    ready, reference = logits(lm.ready(), ct, cross), logits(lm, ct, cross)
    for found, expected in zip(ready, reference, strict=True):
        assert_close(found, expected, 2e-5)
        assert mx.array_equal(mx.argmax(found, -1), mx.argmax(expected, -1))


@FORMS
@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_too(bits, form, monkeypatch):
    use(form, monkeypatch)
    lm = tiny.lm()
    nn.quantize(lm, 32, bits)
    for found, expected in zip(logits(lm.ready()), logits(lm), strict=True):
        assert_close(found, expected, 2e-5)


@FORMS
def test_a_network_that_sees_an_image_too(form, monkeypatch):
    use(form, monkeypatch)
    lm = vision.golden_vis()
    codes = tiny.codes(vision.config(), 2, 6)
    image = mx.random.normal((2, 5, lm.cfg.transformer.d_model))

    def hidden(network: Lm) -> list[mx.array]:
        cache, found = network.transformer.make_rot_cache(), []
        for start, end, shown in [(0, 1, None), (1, 4, image), (4, 5, image)]:
            now = codes[:, :, start:end]
            found.append(network.hidden(now[:, 0], now[:, 1:], cache, None, shown))
        return [*found, *(layer.gate for layer in cache if layer.gate is not None)]

    ready, reference = hidden(lm.ready()), hidden(lm)
    assert len(ready) == len(reference) > 3  # the gates are among them
    for found, expected in zip(ready, reference, strict=True):
        assert_close(found, expected, 2e-5)


@FORMS
def test_in_bfloat16_it_is_as_near_to_float32_as_the_reference(form, monkeypatch):
    use(form, monkeypatch)
    lm = tiny.lm()
    exact = logits(lm)
    lm.set_dtype(mx.bfloat16)

    def distance(network: Lm) -> float:
        pairs = zip(logits(network), exact, strict=True)
        return sum(number(mx.square(x - y).sum()) for x, y in pairs) ** 0.5

    assert 0 < distance(lm.ready()) < 1.2 * distance(lm)


@FORMS
def test_a_codec_made_ready_gives_the_same_codes_and_sound(form, monkeypatch):
    use(form, monkeypatch)
    mimi, io = golden_mimi(), golden_io()
    pcm = io["pcm"][..., : 12 * mimi.frame_size]
    found = []
    for network in (mimi.ready(), mimi):
        state = mimi.make_state()
        latent = network.latent(pcm, state.encoder)
        codes = network.quantizer.encode(latent)
        found.append((latent, codes, network.sound(codes, state.decoder)))
    (latent, codes, sound), expected = found
    assert_close(latent, expected[0], 1e-4)
    assert mx.array_equal(codes, expected[1])
    assert_close(sound, expected[2], 1e-4)


def same(module: nn.Module, before: dict[str, mx.array]) -> bool:
    after = parameters(module)
    return list(after) == list(before) and all(after[k] is before[k] for k in before)


@pytest.mark.parametrize("bits", [None, 4])
def test_generating_leaves_the_model_as_it_was(bits):
    lm = tiny.lm()
    if bits:
        nn.quantize(lm, 32, bits)
    before, values = parameters(lm), {k: np.array(v) for k, v in parameters(lm).items()}
    modules = [m for _, m in lm.named_modules()]
    items = [list(m) for m in modules]
    run(tiny.greedy(lm), heard(lm, 1, 4))
    assert same(lm, before)
    assert all(np.array_equal(np.array(before[k]), values[k]) for k in before)
    assert all(m is n for (_, m), n in zip(lm.named_modules(), modules, strict=True))
    assert [list(m) for m in modules] == items
    assert all(type(m).__name__[:4] != "Fast" for m in modules)


def test_coding_leaves_the_codec_as_it_was():
    mimi = golden_mimi()
    before = parameters(mimi)
    mimi.decode(mimi.encode(mx.random.normal((1, 1, 4 * mimi.frame_size))))
    assert same(mimi, before)


class Adapter(nn.Module):
    """A low-rank addition to a linear layer, as fine-tuning makes it."""

    def __init__(self, layer: nn.Module, dim_in: int, dim_out: int):
        super().__init__()
        self.layer = layer
        self.a = mx.random.normal((dim_in, 2)) * 0.1
        self.b = mx.random.normal((2, dim_out)) * 0.1

    def __call__(self, x: mx.array) -> mx.array:
        return self.layer(x) + x @ self.a @ self.b


def is_wide(_: str, layer: nn.Module) -> bool:
    return hasattr(layer, "to_quantized") and layer["weight"].shape[-1] % 32 == 0


def adapted(module: nn.Module) -> None:
    """Wrap every linear layer of a network."""
    wrapped = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear | nn.QuantizedLinear):
            rows, columns = layer["weight"].shape
            if isinstance(layer, nn.QuantizedLinear):
                columns = layer["scales"].shape[1] * layer.group_size
            wrapped.append((name, Adapter(layer, columns, rows)))
    module.update_modules(tree_unflatten(wrapped))


@pytest.mark.parametrize("bits", [None, 4])
def test_adapters_around_every_layer_are_called(bits):
    lm, plain = tiny.lm(**CONDITIONED), tiny.lm(**CONDITIONED)
    for model in (lm, plain):
        if bits:
            nn.quantize(model, 32, bits, class_predicate=is_wide)
    run(tiny.greedy(lm), heard(lm, 1, 2), None, cross := wave(1, 4, BASE["dim"]))
    adapted(lm)
    gen = tiny.greedy(lm)  # notices that layers were replaced
    run(gen, heard(lm, 1, 6), None, cross)
    cross = mx.random.normal((2, 4, BASE["dim"]))
    found, expected = logits(lm.ready(), None, cross), logits(lm, None, cross)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, 2e-5)
    assert not mx.allclose(expected[0], logits(plain, None, cross)[0], atol=1e-2)


class Doubled(MlpGating):
    """A block of the user's own, by inheritance."""

    def __call__(self, x: mx.array) -> mx.array:
        return 2 * super().__call__(x)


class Around(nn.Module):
    """A part of a layer, wrapped whole."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def __call__(self, *args: Any) -> mx.array:
        return -self.inner(*args)


class WithCaches(Around):
    inner: Any

    def make_rot_cache(self, *args: Any) -> Any:
        return self.inner.make_rot_cache(*args)


def replaced(which: str) -> Transformer:
    module = stack(num_layers=3)
    layer = module.layers[1]
    if which == "block":
        mlp = Doubled(config())
        mlp.update(layer.gating.parameters())
        layer.gating = mlp
    elif which == "norm":
        layer.norm1 = Around(layer.norm1)  # type: ignore
    elif which == "attention":
        layer.self_attn = Around(layer.self_attn)  # type: ignore
    else:
        module.layers[{"first": 0, "middle": 1, "last": 2}[which]] = Around(layer)  # type: ignore
    return module


@pytest.mark.parametrize(
    "which", ["block", "norm", "attention", "first", "middle", "last"]
)
def test_a_part_of_the_user_s_own_is_called_as_it_is(which):
    module, x = replaced(which), wave(2, 9)
    caches = [module.make_rot_cache() for _ in range(2)]
    assert not mx.allclose(module(x), stack(num_layers=3)(x), atol=1e-2)
    for start, end in [(0, 4), (4, 5), (5, 9)]:
        found, expected = (
            network(x[:, start:end], cache)
            for network, cache in zip((fast.ready(module), module), caches, strict=True)
        )
        assert_close(found, expected, 2e-5)


@pytest.mark.parametrize("depth", ["ours", "layer", "stack"])
def test_stacks_and_tables_of_the_user_s_own_are_called_too(depth):
    lm, plain = tiny.lm(), tiny.lm()
    lm.transformer = WithCaches(lm.transformer)  # type: ignore
    lm.text_emb = Around(lm.text_emb)  # type: ignore
    lm.audio_embs = [Around(emb) for emb in lm.audio_embs]  # type: ignore
    for part in lm.depformer.slices:
        part.emb = Around(part.emb)  # type: ignore
    if depth == "layer":
        layers = lm.depformer.slices[1].transformer.layers
        layers[0] = Around(layers[0])  # type: ignore
    elif depth == "stack":
        part = lm.depformer.slices[1]
        part.transformer = Around(part.transformer)  # type: ignore
    found, expected = logits(lm.ready()), logits(lm)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, 2e-5)
    assert not mx.allclose(expected[0], logits(plain)[0], atol=1e-2)


def test_a_network_of_the_user_s_own_kind_is_itself():
    class Mine(Transformer):
        pass

    module = Mine(config())
    assert fast.ready(module) is module


def test_what_was_made_ready_is_kept_until_weights_are_replaced(tmp_path: Path):
    lm = tiny.lm()
    ready = lm.ready()
    assert lm.ready() is ready and ready.ready() is ready
    lm.transformer.layers[0].norm1.weight = mx.ones(BASE["dim"])
    assert lm.ready(refresh=False) is ready
    assert (ready := lm.ready()) is lm.ready()
    lm.save_weights(str(tmp_path / "w.safetensors"))
    lm.load_weights(str(tmp_path / "w.safetensors"))
    assert lm.ready() is not ready
    ready, layer = lm.ready(), lm.text_linear
    lm.text_linear = Around(layer)  # type: ignore  # the same weights
    assert lm.ready() is not ready


def test_a_ready_network_is_freed_with_its_own():
    lm = tiny.lm(dim=128, card=500, text_card=500)
    run(tiny.greedy(lm), heard(lm, 1, 4))
    held = sum(w.nbytes for w in parameters(lm).values())
    mx.eval(lm.parameters())
    before = mx.get_active_memory()
    del lm
    assert before - mx.get_active_memory() > 0.9 * held  # without the cycle collector


def test_a_ready_network_holds_no_stream_s_state():
    lm, mimi = tiny.lm(), golden_mimi()
    gen = tiny.greedy(lm)
    run(gen, heard(lm, 1, 2))
    mimi.encode_step(mx.zeros((1, 1, mimi.frame_size)))
    assert mimi._state is not None
    held = [weakref.ref(gen.cache[0]), weakref.ref(mimi._state)]
    del gen
    tiny.greedy(lm)
    mimi.reset_state()
    assert [state() for state in held] == [None, None]


def test_a_copied_model_generates_on_its_own_weights():
    lm = tiny.lm()
    first = run(tiny.greedy(lm), heard(lm, 1, 6))
    other = copy.deepcopy(lm)
    other.text_linear.weight = -other.text_linear.weight
    assert not np.array_equal(run(tiny.greedy(other), heard(lm, 1, 6)), first)
    assert np.array_equal(run(tiny.greedy(lm), heard(lm, 1, 6)), first)
    fast.ready(layer := TransformerLayer(config()))
    copied = pickle.loads(pickle.dumps(layer))
    assert same(copied, parameters(copied)) and same(layer, parameters(layer))
    assert fast.ready(copied) is not fast.ready(layer)
