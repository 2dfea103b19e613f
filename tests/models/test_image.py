"""MoshiVis against Kyutai's kyuteye_pt: features, keys, gates, logits and tokens."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moshi_mlx.fast import ops
from moshi_mlx.models import Lm
from tests.tiny import assert_close, greedy, number
from tests.vision import golden_encoder, golden_vis, tensors

TOL = 1e-4  # of the largest expected value
CASES = {  # image, and the call that is the first to see it
    "no_image": (None, 0),
    "image": (0, 0),
    "other_image": (1, 0),
    "image_from_16": (0, 16),
}
pytestmark = pytest.mark.usefixtures("uncompiled")


def pixels(key: str = "pixel_values") -> mx.array:
    """The golden images, channels last."""
    return tensors("io")[key].transpose(0, 2, 3, 1)


def source(image: int) -> mx.array:
    return golden_encoder()(pixels()[image : image + 1])


def test_an_image_s_features_are_the_reference_s():
    tower, io = golden_encoder().tower, tensors("io")
    assert_close(tower(pixels()), io["image_features"], TOL)


def test_positions_are_resampled_for_an_image_of_another_size():
    tower, io = golden_encoder().tower, tensors("io")
    found = tower(pixels("pixel_values_42"))
    assert_close(found, io["image_features_42"], TOL)


@pytest.mark.parametrize("case", ["image", "other_image"])
def test_keys_and_values_of_an_image_are_the_reference_s(case: str):
    lm, io, image = golden_vis(), tensors("io"), CASES[case][0]
    assert image is not None
    x = source(image)
    assert_close(x, io[f"{case}.xa_source"], TOL)
    found = lm.transformer.cross_attention.remember(x, None, 1, mx.float32)
    for array, name in zip(found, ("keys", "values"), strict=True):
        joined = array.swapaxes(1, 2).flatten(2)
        assert_close(joined, io[f"{case}.xa_{name}"], TOL)


def check(lm: Lm, case: str, rows: int = 1) -> None:
    """Step through a case: logits, tokens and gates must be the reference's."""
    io, (image, first) = tensors("io"), CASES[case]
    x = None if image is None else mx.repeat(source(image), rows, axis=0)
    logits: list[mx.array] = []
    said: list[mx.array] = []
    gen = greedy(
        lm,
        batch_size=rows,
        on_text_logits_hook=lambda x: logits.append(mx.array(x)),
        on_audio_hook=lambda x: said.append(mx.array(x)),
    )
    texts: list[object] = []
    gates: list[list[float]] = []
    means: list[np.ndarray] = []
    for t in range(40):
        shown = x if t >= first else None
        user = mx.repeat(io["user_codes"][:, :, t], rows, axis=0)
        text, _ = gen.step(user, cross_attention_src=shown)
        texts.append(text.tolist())
        layers = [layer.gate for layer in gen.cache]
        gates.append([0.0 if g is None else number(g[0, 0]) for g in layers])
        means.append(np.zeros(rows) if gen.gate is None else np.array(gen.gate))
        audio, wanted = gen.last_audio_tokens(), io[f"{case}.output"][t, 1:]
        if audio is not None:
            assert audio.tolist() == [wanted.tolist()] * rows
    wanted = np.array(io[f"{case}.text_tokens"]).tolist()
    assert texts == [[row] * rows for row in wanted]
    expected = mx.repeat(io[f"{case}.text_logits"][None], rows, axis=0)
    assert_close(mx.concatenate(logits, axis=1), expected, TOL)
    codes = mx.concatenate(said, axis=2).swapaxes(1, 2)
    expected = mx.repeat(io[f"{case}.audio_tokens"][None], rows, axis=0)
    assert mx.array_equal(codes, expected)
    wanted = np.array(io[f"{case}.layer_gates"])
    assert np.allclose(gates, wanted, atol=TOL)
    wanted = np.array(io[f"{case}.gate"])[:, None]
    assert np.allclose(means, np.repeat(wanted, rows, axis=1), atol=TOL)
    assert (wanted > 0.05).any() == (image is not None)


@pytest.mark.parametrize("case", CASES)
def test_every_token_logit_and_gate_is_the_reference_s(case: str):
    check(golden_vis(), case)


def test_a_batch_sees_as_one_row_does():
    check(golden_vis(), "image_from_16", rows=2)


def test_a_gpu_s_fused_operations_see_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ops, "on_gpu", lambda: True)
    check(golden_vis(), "image")


def test_a_row_of_zeros_is_no_image():
    lm, io = golden_vis(), tensors("io")
    both = mx.concatenate([source(0), mx.zeros((1, 16, 64))])
    logits: list[mx.array] = []
    gen = greedy(
        lm, batch_size=2, on_text_logits_hook=lambda x: logits.append(mx.array(x))
    )
    for t in range(20):
        gen.step(mx.repeat(io["user_codes"][:, :, t], 2, axis=0), None, both)
    found = mx.concatenate(logits, axis=1)
    assert_close(found[0], io["image.text_logits"][:20], TOL)
    assert_close(found[1], io["no_image.text_logits"][:20], TOL)


def test_the_norm_of_the_mlx_and_rust_backends_is_followed():
    io = tensors("io")
    other = io["image_variance_norm.xa_source"]
    error = number(mx.abs(source(0) - other).max() / mx.abs(other).max())
    assert error > 10 * TOL  # kyuteye_pt's own norm would show


def test_an_image_s_keys_are_computed_once():
    lm, io, x = golden_vis(), tensors("io"), source(0)
    gen = greedy(lm)
    kept = []
    for t in range(3):
        gen.step(io["user_codes"][:, :, t], cross_attention_src=x)
        kept.append([layer.cross_attn for layer in gen.cache])
    assert kept[0][0] is not None and kept[0][1:] == [None, None]
    assert kept[0][0] is kept[2][0]


def test_the_gates_learn():
    lm, io = golden_vis(), tensors("io")
    text, audio = mx.zeros((1, 1, 6), mx.int32), io["user_codes"][:, :, :6]
    codes = mx.concatenate([text, audio, audio], axis=1)

    def loss(codes: mx.array) -> mx.array:
        out = lm.teacher_forced(codes, cross_attention_src=source(0))
        return out.text_logits.square().sum()

    _, grads = nn.value_and_grad(lm, loss)(codes)
    for layer in grads["transformer"]["layers"]:
        for part in ("linear1", "linear2"):
            assert number(mx.abs(layer["cross_gate"][part]["weight"]).max()) > 0
