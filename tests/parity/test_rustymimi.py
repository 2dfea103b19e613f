"""The full-size codec, random weights: ours against Kyutai's Rust, code by code.

Both stay inside the attention window of 10 s: beyond it rustymimi's ring loses a key.
"""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from moshi_mlx.codec import Codec, NativeCodec, RustCodec, make_codec
from moshi_mlx.errors import ConfigError
from moshi_mlx.models.mimi import Mimi, mimi_202407
from tests.parity import random_mimi

pytestmark = pytest.mark.slow
pytest.importorskip("rustymimi", reason="not on this Python: rustymimi")

FRAME = 1920


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("mimi") / "random.safetensors"
    random_mimi.write(path, codebooks=8)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def mimi(weights: Path) -> Mimi:
    return Mimi(mimi_202407(8)).load_pytorch_weights(weights)


@pytest.fixture
def pcm() -> np.ndarray:
    """A second of noise whose loudness changes, in two rows."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, 1, 12 * FRAME)).astype(np.float32)
    return noise * np.linspace(0, 0.3, 12 * FRAME, dtype=np.float32)


def run(codec: Codec, pcm: np.ndarray, frames: int = 1) -> tuple:
    """Codes and their sound, ``frames`` at a time."""
    codes, sound, step = [], [], frames * FRAME
    for i in range(0, pcm.shape[-1], step):
        codes.append(codec.encode_step(pcm[..., i : i + step]))
        sound.append(codec.decode_step(codes[-1]))
    return np.concatenate(codes, -1), np.concatenate(sound, -1)


def assert_same(ours: tuple, theirs: tuple) -> None:
    assert len(np.unique(ours[0])) > ours[0].size / 3  # the codes say something
    assert np.array_equal(ours[0], theirs[0])
    scale = np.abs(theirs[1]).max()
    assert scale > 1e-3
    assert np.abs(ours[1] - theirs[1]).max() < 1e-4 * scale


def test_codes_are_equal_and_sound_is_near(weights, mimi, pcm):
    rust = make_codec("rust", weights=weights)
    theirs = run(rust, pcm[:1])
    assert_same(run(NativeCodec(mimi), pcm[:1]), theirs)
    assert_same(run(NativeCodec(mimi), pcm[:1], frames=4), theirs)
    assert_same((np.array(mimi.encode(pcm[:1])), theirs[1]), theirs)


def test_a_batch_is_equal_too(weights, mimi, pcm):
    short = pcm[..., : 4 * FRAME]
    rust = RustCodec(weights, batch_size=2)
    assert_same(run(NativeCodec(mimi, batch_size=2), short), run(rust, short))


def test_the_rust_codec_keeps_to_the_interface(weights, pcm):
    """One engine for all: making one takes a second."""
    short = pcm[:1, :, : 4 * FRAME]
    codec = RustCodec(weights, hours=8 * FRAME / 24_000 / 3600)
    assert (codec.sample_rate, codec.frame_size, codec.num_codebooks) == (
        24_000,
        FRAME,
        8,
    )
    codes, sound = first = run(codec, short)
    assert (codes.dtype, sound.dtype) == (np.int32, np.float32)

    codec.reset()  # rustymimi's own would leave the old stream in the first frame
    assert_same(run(codec, short), first)

    for wrong, words in (
        (np.zeros((1, 1, 100)), "got 100 samples: .* whole frames of 1920"),
        (np.zeros((2, 1, FRAME)), r"shape \(2, 1, 1920\): it takes \[1, 1, "),
    ):
        with pytest.raises(ValueError, match=words):
            codec.encode_step(wrong)
    for codes, words in (
        (np.zeros((1, 4, 1), int), r"shape \(1, 4, 1\): it takes \[1, 8, "),
        (np.full((1, 8, 1), 2048), "from 2048 to 2048"),
        (np.zeros((1, 8, 0), int), "got no frames"),
    ):
        with pytest.raises(ValueError, match=words):
            codec.decode_step(codes)

    run(codec, short)  # the eight frames of its cap are full now
    with pytest.raises(ConfigError, match="is over: reset it, or use the native"):
        codec.encode_step(short[..., :FRAME])
    codec.reset()
    assert_same(run(codec, short), first)


def test_two_threads_may_use_one_rust_codec(weights, pcm):
    """rustymimi itself answers "Already borrowed" to the second."""
    codec = RustCodec(weights, hours=0.1)
    codes = np.zeros((1, 8, 1), np.int32)
    done = []

    def work(step, value) -> None:
        for _ in range(4):
            step(value)
        done.append(step)

    jobs = (codec.encode_step, pcm[:1, :, :FRAME]), (codec.decode_step, codes)
    threads = [Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2
