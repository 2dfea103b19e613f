"""Convolutions: equal to their definition, frame by frame as over the whole signal."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshi_mlx.modules.conv import (
    StreamableConv1d,
    StreamableConvTranspose1d,
    reset_rows,
)
from tests.tiny import assert_close

Array = np.ndarray


def conv_oracle(
    x: Array, w: Array, bias: Array, stride: int, dilation: int, replicate: bool
) -> Array:
    """PyTorch moshi's: pad on the left by the kernel's reach less the stride.

    ``x [B, T, C_in]``, ``w [C_out, K, C_in]``.
    """
    k = w.shape[1]
    missing = (k - 1) * dilation + 1 - stride
    first = x[:, :1] if replicate else np.zeros_like(x[:, :1])
    x = np.concatenate([np.repeat(first, missing, axis=1), x], axis=1)
    steps = (x.shape[1] - (k - 1) * dilation - 1) // stride + 1
    y = np.zeros((x.shape[0], steps, w.shape[0]))
    for t in range(steps):
        for j in range(k):
            y[:, t] += x[:, t * stride + j * dilation] @ w[:, j].T
    return y + bias


def convtr_oracle(
    x: Array, w: Array, bias: Array, stride: int, depthwise: bool
) -> Array:
    """Every input adds its kernel, scaled, from its place on; the end is cut off.

    ``x [B, T, C_in]``, ``w [C_out, K, C_in]``, or ``[1, K, C]`` depthwise.
    """
    b, t, c_in = x.shape
    c_out, k, _ = w.shape
    y = np.zeros((b, t * stride + k, c_in if depthwise else c_out))
    for i in range(t):
        for j in range(k):
            y[:, i * stride + j] += (
                x[:, i] * w[0, j] if depthwise else x[:, i] @ w[:, j].T
            )
    return y[:, : t * stride] + bias


def with_bias(layer: StreamableConv1d | StreamableConvTranspose1d):
    """The layer with a bias that is not zero, and its weight and bias as NumPy."""
    is_plain = isinstance(layer, StreamableConv1d)
    inner = layer.conv.conv if is_plain else layer.convtr.convtr
    inner.bias = mx.random.normal(inner.bias.shape)
    return np.array(inner.weight, np.float64), np.array(inner.bias, np.float64)


@settings(max_examples=60, deadline=None)
@given(
    k=st.integers(1, 9),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    steps=st.integers(1, 9),
    batch=st.integers(1, 3),
    replicate=st.booleans(),
)
def test_convolution_is_its_definition(k, stride, dilation, steps, batch, replicate):
    if (k - 1) * dilation + 1 < stride:
        return
    mode = "replicate" if replicate else "constant"
    layer = StreamableConv1d(3, 5, k, stride, dilation, pad_mode=mode)
    w, bias = with_bias(layer)
    x = mx.random.normal((batch, steps * stride, 3))
    expected = conv_oracle(np.array(x), w, bias, stride, dilation, replicate)
    assert_close(layer(x), mx.array(expected, mx.float32))


@settings(max_examples=60, deadline=None)
@given(
    k=st.integers(1, 9),
    stride=st.integers(1, 4),
    steps=st.integers(1, 9),
    batch=st.integers(1, 3),
    depthwise=st.booleans(),
)
def test_transposed_convolution_is_its_definition(k, stride, steps, batch, depthwise):
    c_out, groups = (3, 3) if depthwise else (5, 1)
    layer = StreamableConvTranspose1d(3, c_out, k, stride, groups)
    w, bias = with_bias(layer)
    x = mx.random.normal((batch, steps, 3))
    expected = convtr_oracle(np.array(x), w, bias, stride, depthwise)
    assert_close(layer(x), mx.array(expected, mx.float32))


LAYERS = {
    "plain": lambda: StreamableConv1d(3, 5, 7),
    "dilated": lambda: StreamableConv1d(3, 5, 3, dilation=4),
    "strided": lambda: StreamableConv1d(3, 5, 8, 4),
    "replicate": lambda: StreamableConv1d(3, 5, 4, 2, pad_mode="replicate"),
    "pointwise": lambda: StreamableConv1d(3, 5, 1),
    "transposed": lambda: StreamableConvTranspose1d(3, 5, 8, 4),
    "long tail": lambda: StreamableConvTranspose1d(3, 5, 7, 2),
    "no tail": lambda: StreamableConvTranspose1d(3, 5, 4, 4),
    "depthwise": lambda: StreamableConvTranspose1d(3, 3, 4, 2, groups=3),
}
layers = pytest.mark.parametrize("name", LAYERS)


def streamed(layer, x: mx.array, chunk: int, state=None) -> mx.array:
    state = layer.make_state(x.shape[0]) if state is None else state
    parts = [layer(x[:, i : i + chunk], state) for i in range(0, x.shape[1], chunk)]
    return mx.concatenate(parts, axis=1)


@layers
@pytest.mark.parametrize("chunk", [4, 8, 20])
def test_frames_give_what_the_whole_signal_gives(name, chunk):
    layer = LAYERS[name]()
    with_bias(layer)
    x = mx.random.normal((2, 40, 3))
    assert_close(streamed(layer, x, chunk), layer(x))


@layers
def test_a_row_of_a_batch_is_a_signal_of_its_own(name):
    layer, x = LAYERS[name](), mx.random.normal((3, 16, 3))
    alone = [streamed(layer, x[i : i + 1], 4) for i in range(3)]
    assert_close(streamed(layer, x, 4), mx.concatenate(alone))


@layers
def test_two_streams_do_not_touch(name):
    layer, x = LAYERS[name](), mx.random.normal((2, 16, 3))
    states = [layer.make_state(1) for _ in x]
    parts: list[list[mx.array]] = [[], []]
    for i in range(0, 16, 4):
        for which in (0, 1):
            piece = x[which : which + 1, i : i + 4]
            parts[which].append(layer(piece, states[which]))
    for which in (0, 1):
        assert_close(mx.concatenate(parts[which], axis=1), layer(x[which : which + 1]))


@layers
def test_reset_rows_begin_anew_and_the_others_go_on(name):
    layer, x = LAYERS[name](), mx.random.normal((3, 24, 3))
    state = layer.make_state(3)
    streamed(layer, x[:, :12], 4, state)
    reset_rows([state], [0, 2])
    y = streamed(layer, x[:, 12:], 4, state)
    assert_close(y[::2], layer(x[::2, 12:]))
    assert_close(y[1:2], layer(x[1:2])[:, -y.shape[1] :])


@layers
def test_state_does_not_grow(name):
    layer, state = LAYERS[name](), LAYERS[name]().make_state(2)
    sizes = set()
    for _ in range(5):
        layer(mx.random.normal((2, 8, 3)), state)
        sizes.add(sum(a.nbytes for a in state.values()))
    assert sizes == {sum(a.nbytes for a in layer.make_state(2).values())}


def test_a_later_input_changes_no_earlier_output():
    layer, x = LAYERS["dilated"](), mx.random.normal((1, 20, 3))
    changed = mx.concatenate([x[:, :12], mx.random.normal((1, 8, 3))], axis=1)
    assert mx.array_equal(layer(x)[:, :12], layer(changed)[:, :12])


def test_replaced_weights_are_used():
    layer, x = LAYERS["transposed"](), mx.random.normal((1, 4, 3))
    before = layer(x)
    inner = layer.convtr.convtr
    inner.weight = 2 * inner.weight
    assert_close(layer(x), 2 * before)
    inner.bias = inner.bias + 1
    assert_close(layer(x), 2 * before + 1)


@pytest.mark.parametrize("samples", [0, 3, 6])
def test_a_part_of_a_stride_is_refused(samples):
    with pytest.raises(ValueError, match=f"got {samples} samples.*stride 4"):
        LAYERS["strided"]()(mx.zeros((1, samples, 3)))


def test_what_cannot_stream_is_refused():
    with pytest.raises(ValueError, match="causal=True"):
        StreamableConv1d(1, 1, 3, causal=False)
    with pytest.raises(ValueError, match="causal=True"):
        StreamableConvTranspose1d(1, 1, 3, causal=False)
    with pytest.raises(ValueError, match="'reflect' is not supported"):
        StreamableConv1d(1, 1, 3, pad_mode="reflect")
    with pytest.raises(ValueError, match="skips samples"):
        StreamableConv1d(1, 1, 2, stride=3)
    with pytest.raises(ValueError, match="2 groups for 4 -> 4"):
        StreamableConvTranspose1d(4, 4, 4, groups=2)
