"""The codec's layers made ready compute what they compute as they are."""

import mlx.core as mx
import pytest

from moshi_mlx import fast
from moshi_mlx.fast import ops
from moshi_mlx.modules.quantization import SplitResidualVectorQuantizer
from moshi_mlx.modules.seanet import Elu, SeanetDecoder, SeanetEncoder
from tests.modules.test_conv import LAYERS, streamed, with_bias
from tests.modules.test_quantization import fill
from tests.modules.test_seanet import HOP, VARIANTS, randomised
from tests.tiny import assert_close


@pytest.fixture(params=["cpu", "gpu"], autouse=True)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """The arithmetic of each kind of device, both run on CPU."""
    if request.param == "gpu":
        monkeypatch.setattr(ops, "on_gpu", lambda: True)


@pytest.mark.parametrize("name", LAYERS)
def test_convolutions(name):
    layer, x = LAYERS[name](), mx.random.normal((2, 40, 3))
    with_bias(layer)
    ready = fast.ready(layer)
    assert_close(ready(x), layer(x))
    assert_close(streamed(ready, x, 4), layer(x))


@pytest.mark.parametrize("name", VARIANTS)
def test_seanet(name):
    encoder = randomised(SeanetEncoder(VARIANTS[name]))
    decoder = randomised(SeanetDecoder(VARIANTS[name]))
    pcm, latents = mx.random.normal((2, 4 * HOP, 1)), mx.random.normal((2, 4, 6))
    assert_close(fast.ready(encoder)(pcm), encoder(pcm))
    assert_close(fast.ready(decoder)(latents), decoder(latents))


def test_elu():
    x = mx.linspace(-20, 5, 1000)
    assert_close(fast.ready(Elu())(x), Elu()(x), 1e-6)


@pytest.mark.parametrize("nq", [1, 4])
def test_quantisation(nq):
    rvq = SplitResidualVectorQuantizer(6, 5, 4, nq, 32)
    fill(rvq)
    x, ready = mx.random.normal((2, 9, 5)), fast.ready(rvq)
    codes = rvq.encode(x)
    for n in range(1, nq + 1):
        assert mx.array_equal(ready.encode(x, n), codes[:, :n])
        assert_close(ready.decode(codes[:, :n]), rvq.decode(codes[:, :n]))


def test_replaced_codebooks_and_kernels_are_used():
    rvq = SplitResidualVectorQuantizer(3, 3, 3, 2, 8)
    fill(rvq)
    codes = rvq.encode(mx.random.normal((1, 4, 3)))
    before = fast.ready(rvq).decode(codes)
    for chain in (rvq.rvq_first, rvq.rvq_rest):
        book = chain.vq.layers[0].codebook
        book.embedding_sum = 2 * book.embedding_sum
    assert_close(fast.ready(rvq).decode(codes), 2 * before)
    layer, x = LAYERS["transposed"](), mx.random.normal((1, 4, 3))
    before = fast.ready(layer)(x)
    layer.convtr.convtr.weight = 2 * layer.convtr.convtr.weight
    assert_close(fast.ready(layer)(x), 2 * before)
