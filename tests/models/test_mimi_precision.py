"""A codec that makes sound in float16: nearly the same sound, the same codes."""

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.codec import NativeCodec
from moshi_mlx.errors import ConfigError
from moshi_mlx.models.mimi_precision import set_decoder_dtype
from tests.questions import QUESTIONS
from tests.tiny_mimi import random_mimi


def test_float16_loses_little_sound_and_no_code():
    pcm = moshi_mlx.audio.read(QUESTIONS[0].path)[0][: 25 * 1920]
    exact, half = (moshi_mlx.load_codec("demo").mimi for _ in range(2))
    set_decoder_dtype(half, mx.float16)
    found = []
    for mimi in (exact, half):
        codec = NativeCodec(mimi)
        codes = codec.encode_step(pcm.reshape(1, 1, -1))
        found.append((codes, codec.decode_step(codes)))
    (codes, sound), (same, near) = found
    assert (codes == same).all()
    assert near.dtype == np.float32
    noise = near - sound
    assert noise.any(), "it is not computed in float16"
    assert 10 * np.log10((sound**2).sum() / (noise**2).sum()) > 50


def test_float32_can_be_had_again():
    mimi = random_mimi()
    codes = mx.zeros((1, 4, 3), mx.int32)
    before = mimi.decode(codes)
    set_decoder_dtype(mimi, mx.float16)
    set_decoder_dtype(mimi, mx.float32)
    assert mx.allclose(mimi.decode(codes), before, atol=0.1)
    assert mimi.upsample.convtr.convtr.convtr.weight.dtype == mx.float32


def test_bfloat16_is_too_coarse():
    with pytest.raises(ConfigError, match="in bfloat16: choose float16 or float32"):
        set_decoder_dtype(random_mimi(), mx.bfloat16)


def test_weights_beyond_float16_are_refused():
    mimi = random_mimi()
    last = mimi.decoder.final_conv1d.conv.conv
    last.weight = last.weight + 1e5
    with pytest.raises(ConfigError, match=r"final_conv1d.* beyond 65504"):
        set_decoder_dtype(mimi, mx.float16)


def test_a_model_is_loaded_with_it():
    moshi = moshi_mlx.load("demo", codec_dtype="float16")
    reply = moshi.respond(np.zeros(1920, np.float32), tail_s=0.5)
    assert reply.pcm.dtype == np.float32
    with pytest.raises(ConfigError, match="'bfloat16' is unknown: choose float32 or"):
        moshi_mlx.load("demo", codec_dtype="bfloat16")
    with pytest.raises(ConfigError, match="codec 'other' is unknown: choose one of"):
        moshi_mlx.load("demo", codec="other")
    with pytest.raises(ConfigError, match="rust codec computes in float32 only"):
        moshi_mlx.load("demo", codec="rust", codec_dtype="float16")
