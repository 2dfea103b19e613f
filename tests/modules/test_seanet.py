"""SEANet: causal, of the right rate, frame by frame as over the whole signal."""

from dataclasses import replace

import mlx.core as mx
import pytest

from moshi_mlx.modules.seanet import SeanetConfig, SeanetDecoder, SeanetEncoder
from tests.tiny import assert_close, parameters

BASE = SeanetConfig(
    dimension=6,
    channels=1,
    causal=True,
    nfilters=4,
    nresidual_layers=1,
    ratios=[3, 2],
    ksize=5,
    residual_ksize=3,
    last_ksize=3,
    dilation_base=2,
    pad_mode="constant",
    true_skip=True,
    compress=2,
)
HOP = 6  # samples per latent
VARIANTS = {
    "released": BASE,
    "three dilated blocks": replace(BASE, nresidual_layers=3, dilation_base=3),
    "learnt skip": replace(BASE, true_skip=False, compress=1),
    "replicate": replace(BASE, pad_mode="replicate"),
}
variants = pytest.mark.parametrize("name", VARIANTS)


def randomised(net):
    """Biases that are not zero, so that a bias counted twice shows."""
    weights = parameters(net)
    biases = {k: w for k, w in weights.items() if k.endswith("bias")}
    assert biases
    net.load_weights(
        [(k, mx.random.normal(w.shape)) for k, w in biases.items()], strict=False
    )
    return net


def streamed(net, x: mx.array, chunk: int) -> mx.array:
    state = net.make_state(x.shape[0])
    parts = [net(x[:, i : i + chunk], state) for i in range(0, x.shape[1], chunk)]
    return mx.concatenate(parts, axis=1)


@variants
@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_encoder_frames_give_what_the_whole_signal_gives(name, chunk):
    net = randomised(SeanetEncoder(VARIANTS[name]))
    x = mx.random.normal((2, 10 * HOP, 1))
    assert net(x).shape == (2, 10, 6)
    assert_close(streamed(net, x, chunk * HOP), net(x))


@variants
@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_decoder_frames_give_what_all_latents_give(name, chunk):
    net = randomised(SeanetDecoder(VARIANTS[name]))
    x = mx.random.normal((2, 10, 6))
    assert net(x).shape == (2, 10 * HOP, 1)
    assert_close(streamed(net, x, chunk), net(x))


@variants
def test_nothing_looks_ahead(name):
    encoder, decoder = SeanetEncoder(VARIANTS[name]), SeanetDecoder(VARIANTS[name])
    pcm, latents = mx.random.normal((1, 8 * HOP, 1)), mx.random.normal((1, 8, 6))
    for net, x, start, first in ((encoder, pcm, 5 * HOP, 5), (decoder, latents, 5, 30)):
        other = mx.concatenate([x[:, :start], x[:, start:] + 1], axis=1)
        assert mx.array_equal(net(x)[:, :first], net(other)[:, :first])
        assert not mx.array_equal(net(x)[:, first:], net(other)[:, first:])


def test_widths_double_with_every_stride():
    shapes = {k: w.shape for k, w in parameters(SeanetEncoder(BASE)).items()}
    assert shapes["init_conv1d.conv.conv.weight"] == (4, 5, 1)
    assert shapes["layers.0.residuals.0.block.0.conv.conv.weight"] == (2, 3, 4)
    assert shapes["layers.0.downsample.conv.conv.weight"] == (8, 4, 4)
    assert shapes["layers.1.downsample.conv.conv.weight"] == (16, 6, 8)
    assert shapes["final_conv1d.conv.conv.weight"] == (6, 3, 16)
    shapes = {k: w.shape for k, w in parameters(SeanetDecoder(BASE)).items()}
    assert shapes["init_conv1d.conv.conv.weight"] == (16, 5, 6)
    assert shapes["layers.0.upsample.convtr.convtr.weight"] == (8, 6, 16)
    assert shapes["layers.1.upsample.convtr.convtr.weight"] == (4, 4, 8)
    assert shapes["final_conv1d.conv.conv.weight"] == (1, 3, 4)
