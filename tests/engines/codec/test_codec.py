"""Mimi alone: whole sounds and streams, one or several, any number of codebooks."""

import asyncio

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.audio import FRAME, read
from moshi_mlx.engines.codec import MimiCodec
from moshi_mlx.errors import AudioError, ConfigError
from tests.questions import QUESTIONS

LIBRARYS = "tests/data/transformers/mimi"


@pytest.fixture(scope="module")
def codec() -> MimiCodec:
    return moshi_mlx.load_codec("demo")


@pytest.fixture(scope="module")
def pcm() -> np.ndarray:
    return read(QUESTIONS[0].path)[0]


def test_a_file_and_its_samples_have_the_same_codes(codec, pcm):
    codes = codec.encode(str(QUESTIONS[0].path))
    assert codes.dtype == np.int32
    assert codes.shape == (codec.num_codebooks, -(-len(pcm) // FRAME))
    np.testing.assert_array_equal(codes, codec.encode(pcm))
    np.testing.assert_array_equal(codes[:3], codec.encode(pcm, 3))
    whole = (pcm * 32767).round().astype(np.int16)
    assert (codec.encode(whole) == codes).mean() > 0.9


def test_a_stream_says_what_the_whole_says(codec, pcm):
    pcm = pcm[: len(pcm) // FRAME * FRAME]
    codes, sound = codec.encode(pcm), codec.decode(codec.encode(pcm))
    with codec.stream() as stream:
        parts = [stream.encode(pcm[i : i + FRAME]) for i in range(0, len(pcm), FRAME)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=-1), codes)
        heard = [stream.decode(part) for part in parts]
    np.testing.assert_allclose(np.concatenate(heard), sound, atol=1e-4)


def test_a_batch_is_what_its_rows_are_alone(codec, pcm):
    rows = np.stack([pcm[: 30 * FRAME], pcm[10 * FRAME : 40 * FRAME]])
    codes = codec.encode(rows)
    for row, alone in zip(codes, rows, strict=True):
        np.testing.assert_array_equal(row, codec.encode(alone))
    sound = codec.decode(codes)
    assert sound.shape == rows.shape
    with codec.stream(batch_size=2) as stream:
        np.testing.assert_array_equal(stream.encode(rows), codes)
        np.testing.assert_allclose(stream.decode(codes), sound, atol=1e-4)


def test_fewer_codebooks_decode_and_a_rate_is_converted(codec, pcm):
    codes = codec.encode(pcm)
    assert codec.decode(codes[:1]).shape == codec.decode(codes).shape
    half = codec.encode(pcm[::2], sample_rate=12_000)
    assert abs(half.shape[1] - codes.shape[1]) <= 1


def test_asyncio_streams_too(codec, pcm):
    async def run() -> tuple[np.ndarray, np.ndarray]:
        async with codec.stream() as stream:
            codes = await stream.aencode(pcm[: 4 * FRAME])
            return codes, await stream.adecode(codes)

    codes, sound = asyncio.run(run())
    np.testing.assert_array_equal(codes, codec.encode(pcm[: 4 * FRAME]))
    assert sound.shape == (4 * FRAME,)


@pytest.mark.parametrize(
    "call, error, sentence",
    [
        (lambda c: c.encode(np.zeros((1, 1, 4))), ValueError, "codec.encode got an"),
        (lambda c: c.encode(np.zeros(4, np.uint8)), AudioError, "uint8"),
        (
            lambda c: c.encode(np.zeros(4), 9),
            ValueError,
            "num_codebooks=9: give 1 to",
        ),
        (lambda c: c.encode("nothere.wav"), AudioError, "there is no file"),
        (lambda c: c.decode(np.zeros((9, 2), int)), ValueError, "K from 1 to 8"),
        (lambda c: c.decode(np.zeros((2, 2))), ValueError, "give whole numbers"),
        (
            lambda c: c.decode(np.full((2, 2), -1)),
            ValueError,
            "has 0 to 511",
        ),
        (lambda c: c.stream().encode(np.zeros(100)), ValueError, "multiple of 1920"),
        (lambda c: c.stream(2).encode(np.zeros(1920)), ValueError, r"give \[2, S\]"),
        (
            lambda c: c.stream().decode(np.zeros((1, 2, 2), int)),
            ValueError,
            r"\[K, T\]",
        ),
    ],
)
def test_what_does_not_fit_is_said_with_the_functions_name(
    codec, call, error, sentence
):
    with pytest.raises(error, match=sentence):
        call(codec)


def test_a_closed_codec_says_so():
    codec = moshi_mlx.load_codec("demo", num_codebooks=2)
    assert codec.num_codebooks == 2 and "2 codebooks" in repr(codec)
    with codec:
        codec.warmup()
    assert "closed" in repr(codec)
    with pytest.raises(ConfigError, match=r"codec.encode: this MimiCodec is closed"):
        codec.encode(np.zeros(4, np.float32))


def test_more_codebooks_than_the_file_has_are_refused():
    with pytest.raises(ConfigError, match="has 8: give 1 to 8"):
        moshi_mlx.load_codec("demo", num_codebooks=9)


def test_a_file_of_weights_is_a_codec(codec, pcm):
    file = "moshi_mlx/demo/mimi.safetensors"
    alone = moshi_mlx.load_codec(file)
    np.testing.assert_array_equal(alone.encode(pcm, 2), codec.encode(pcm, 2))


def test_the_layout_of_the_transformers_library_computes_the_same():
    """Codes and sound of transformers 5.24, whose window is passed in the recording."""
    codec = moshi_mlx.load(LIBRARYS)
    assert isinstance(codec, MimiCodec) and codec.num_codebooks == 4
    loaded = mx.load(f"{LIBRARYS}/io.safetensors")
    assert isinstance(loaded, dict)
    io = {name: np.array(x) for name, x in loaded.items()}
    codes = codec.encode(io["pcm"][0, 0])
    np.testing.assert_array_equal(codes, io["codes"][0])
    for count, name in ((4, "decoded"), (2, "decoded_2")):
        expected = io[name][0, 0]
        sound = codec.decode(codes[:count])
        np.testing.assert_allclose(sound, expected, atol=1e-4 * abs(expected).max())
