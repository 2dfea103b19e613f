"""The native codec: NumPy at its edge, a stream of its own, rows that begin anew."""

import numpy as np
import pytest

from moshi_mlx.codec import Codec, NativeCodec, make_codec
from moshi_mlx.errors import ConfigError
from tests.tiny_mimi import FRAME, golden_io, golden_mimi


@pytest.fixture(scope="module")
def mimi():
    return golden_mimi()


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in golden_io().items()}


def run(codec: Codec, pcm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes and sound of a signal, frame by frame."""
    codes, sound = [], []
    for i in range(0, pcm.shape[-1], codec.frame_size):
        codes.append(codec.encode_step(pcm[..., i : i + codec.frame_size]))
        sound.append(codec.decode_step(codes[-1]))
    return np.concatenate(codes, -1), np.concatenate(sound, -1)


def test_numpy_in_numpy_out(mimi, golden):
    codec = make_codec("native", mimi=mimi)
    codes, sound = run(codec, golden["pcm"])
    assert (codes.dtype, sound.dtype) == (np.int32, np.float32)
    assert np.array_equal(codes, golden["codes"])
    assert np.abs(sound - golden["decoded"]).max() < 1e-4 * np.abs(sound).max()
    assert (codec.sample_rate, codec.frame_size) == (24_000, FRAME)
    assert (codec.num_codebooks, codec.batch_size) == (8, 1)


def test_codecs_share_weights_and_nothing_else(mimi, golden):
    first, second = (make_codec("native", mimi=mimi) for _ in "ab")
    pcm = golden["pcm"][..., : 4 * FRAME]
    a = [first.encode_step(pcm[..., :FRAME])]
    whole, _ = run(second, pcm)
    a.append(first.encode_step(pcm[..., FRAME:]))
    assert np.array_equal(np.concatenate(a, -1), whole)


def test_a_reset_begins_a_new_stream(mimi, golden):
    codec, pcm = NativeCodec(mimi), golden["pcm"][..., : 3 * FRAME]
    first, later = run(codec, pcm), run(codec, pcm)
    assert not np.array_equal(first[0], later[0])
    codec.reset()
    again = run(codec, pcm)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])


def test_one_row_of_a_batch_begins_anew(mimi, golden):
    codec = make_codec("native", mimi=mimi, batch_size=2)
    assert isinstance(codec, NativeCodec) and codec.batch_size == 2
    pcm = golden["pcm"][..., : 6 * FRAME]
    both = np.concatenate([pcm, pcm])
    codes = [codec.encode_step(both[..., : 3 * FRAME])]
    codec.reset([1])
    codes.append(codec.encode_step(both[..., 3 * FRAME :]))
    assert np.array_equal(np.concatenate(codes, -1)[:1], golden["codes"][..., :6])
    alone, _ = run(NativeCodec(mimi), pcm[..., 3 * FRAME :])
    assert np.array_equal(codes[1][1:], alone)


def test_fewer_codebooks_can_be_decoded(mimi, golden):
    sound = NativeCodec(mimi).decode_step(golden["codes"][:, :4])
    expected = golden["decoded_half"]
    assert np.abs(sound - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("code", [-1, 64])
def test_numbers_that_are_no_codes_are_refused(mimi, code):
    codes = np.full((1, 8, 1), code, np.int32)
    with pytest.raises(ValueError, match=f"from {code} to {code}: .* 0 to 63"):
        NativeCodec(mimi).decode_step(codes)


def test_a_partial_frame_and_another_batch_are_refused(mimi):
    codec = NativeCodec(mimi)
    with pytest.raises(ValueError, match="got 100 samples"):
        codec.encode_step(np.zeros((1, 1, 100), np.float32))
    with pytest.raises(ValueError, match="has 1 rows but got 2"):
        codec.encode_step(np.zeros((2, 1, FRAME), np.float32))


def test_an_unknown_engine_and_missing_weights_are_refused():
    with pytest.raises(ConfigError, match=r"codec 'wooden' .* one of native, rust"):
        make_codec("wooden")
    for engine in ("native", "rust"):
        with pytest.raises(ConfigError, match=f"the {engine} codec .* no weights"):
            make_codec(engine)
