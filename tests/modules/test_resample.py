"""Between the codec's two rates: the edges of a stream, and the arithmetic."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.modules.conv import reset_rows
from moshi_mlx.modules.resample import ConvDownsample1d, ConvTrUpsample1d
from tests.tiny import assert_close


@pytest.mark.parametrize("stride", [2, 3])
def test_downsampling_begins_with_the_first_input_repeated(stride):
    layer = ConvDownsample1d(stride, 3)
    assert layer(mx.zeros((1, stride, 3))).shape == (1, 1, 3)
    constant = mx.broadcast_to(mx.random.normal((1, 1, 3)), (1, 4 * stride, 3))
    y = layer(constant)
    assert_close(y[:, :1], y[:, -1:])  # as if it had always been so


@pytest.mark.parametrize("stride", [2, 3])
def test_upsampling_treats_every_channel_alone(stride):
    layer = ConvTrUpsample1d(stride, 3)
    x = np.array(mx.random.normal((1, 5, 3)))
    w = np.array(layer.convtr.convtr.convtr.weight)[0]  # [2 * stride, C]
    expected = np.zeros((6 * stride, 3))
    for t in range(5):
        expected[t * stride : (t + 2) * stride] += x[0, t] * w
    assert_close(layer(mx.array(x))[0], mx.array(expected[: 5 * stride], mx.float32))


@pytest.mark.parametrize("make", [ConvDownsample1d, ConvTrUpsample1d])
def test_streams_continue_and_rows_begin_anew(make):
    layer, x = make(2, 3), mx.random.normal((2, 12, 3))
    state = layer.make_state(2)
    parts = [layer(x[:, i : i + 2], state) for i in (0, 2, 4)]
    reset_rows([state], [1])
    later = [layer(x[:, i : i + 2], state) for i in (6, 8, 10)]
    first, second = mx.concatenate(parts, axis=1), mx.concatenate(later, axis=1)
    whole = layer(x)
    assert_close(mx.concatenate([first, second], axis=1)[:1], whole[:1])
    assert_close(second[1:], layer(x[1:, 6:]))
