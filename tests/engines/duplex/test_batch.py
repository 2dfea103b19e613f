"""Conversations that share a model's steps are each as if alone."""

import gc
import weakref
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.codec import Codec, NativeCodec
from moshi_mlx.engines.duplex.batch import Batch
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.engines.duplex.reply import Reply
from moshi_mlx.engines.duplex.sampling import Sampling
from moshi_mlx.engines.row_codec import SeparateCodecs
from moshi_mlx.errors import ConfigError
from tests import tiny
from tests.first_uses import operations
from tests.tiny_mimi import random_mimi
from tests.waits import READ, START, WAIT, device_calls

FRAMES = 18


@pytest.fixture(scope="module")
def moshi() -> Moshi:
    mx.set_default_device(mx.cpu)
    return moshi_mlx.load("demo")


@pytest.fixture(scope="module")
def spoken() -> list[list[np.ndarray]]:
    """Two people's frames: noise of changing loudness."""
    rng = np.random.default_rng(3)
    loud = 0.2 * rng.random((2, FRAMES, 1))
    return list((loud * rng.standard_normal((2, FRAMES, 1920))).astype(np.float32))


def alone(moshi: Moshi, wishes: Sampling, frames: list[np.ndarray]) -> list[Reply]:
    session = moshi.session(
        wishes.seed,
        temp=wishes.temp,
        top_k=wishes.top_k,
        temp_text=wishes.temp_text,
        first="silence",
    )
    return [session.step(frame) for frame in frames]


def assert_same(heard: list[Reply], expected: list[Reply]) -> None:
    assert [r.text_token for r in heard] == [r.text_token for r in expected]
    assert [r.text for r in heard] == [r.text for r in expected]
    for mine, other in zip(heard, expected, strict=True):
        assert (mine.tokens is None) == (other.tokens is None)
        if mine.tokens is not None and other.tokens is not None:
            np.testing.assert_array_equal(mine.tokens, other.tokens)
            assert mine.pcm is not None and other.pcm is not None
            np.testing.assert_allclose(mine.pcm, other.pcm, atol=1e-4)


@pytest.mark.parametrize("joint_codec", [False, True])
def test_each_says_what_it_would_say_alone(moshi, spoken, joint_codec):
    """They begin and pause at different times, with settings of their own."""
    batch = Batch(moshi, 2, joint_codec=joint_codec)
    wishes = [  # hot enough that it babbles
        Sampling(seed=1, temp=6.0, temp_text=3.0),
        Sampling(seed=2, temp=5.0, temp_text=4.0, top_k=100),
    ]
    sessions = [batch.open(wishes[0])]
    heard: list[list[Reply]] = [[], []]
    for call in range(3 * FRAMES):
        if call == 4:
            sessions.append(batch.open(wishes[1]))
        turns = [
            who
            for who in range(len(sessions))
            if (call + who) % 4 and len(heard[who]) < FRAMES
        ]
        if turns:
            frames = [spoken[who][len(heard[who])] for who in turns]
            replies = batch.step([sessions[who] for who in turns], frames)
            for who, reply in zip(turns, replies, strict=True):
                heard[who].append(reply)
    for who in range(2):
        assert len(heard[who]) == FRAMES
        assert_same(heard[who], alone(moshi, wishes[who], list(spoken[who])))
        codes = np.stack([r.tokens for r in heard[who] if r.tokens is not None])
        assert len(np.unique(codes, axis=0)) > 4, "it says one thing only"


@pytest.mark.parametrize("joint_codec", [False, True])
def test_a_row_taken_over_forgets_who_had_it(moshi, spoken, joint_codec):
    batch = Batch(moshi, 2, joint_codec=joint_codec)
    stays, goes = batch.open(Sampling(seed=5)), batch.open(Sampling(seed=6))
    for i in range(6):
        batch.step([stays, goes], [spoken[0][i], spoken[1][i]])
    goes.close()
    comes = batch.open(Sampling(seed=7, temp=4.0))
    assert comes.row == goes.row
    heard = [
        batch.step([stays, comes], [spoken[0][6 + i], spoken[1][i]])[1]
        for i in range(8)
    ]
    assert_same(heard, alone(moshi, Sampling(seed=7, temp=4.0), list(spoken[1][:8])))


def test_all_places_taken_is_said_and_a_freed_one_is_given_again(moshi):
    batch = Batch(moshi, 1)
    first = batch.open(Sampling(seed=1))
    with pytest.raises(ConfigError, match="all 1 conversations are taken"):
        batch.open(Sampling(seed=2))
    first.close()
    second = batch.open(Sampling(seed=2))
    first.close()  # closed long ago: the row is somebody else's now
    with pytest.raises(ConfigError):
        batch.open(Sampling(seed=3))
    assert second.row == 0


def test_each_session_needs_a_frame_of_its_own(moshi, spoken):
    with moshi.batch(2) as batch:
        sessions = [batch.open(), batch.open()]
        with pytest.raises(ConfigError, match="got 1 frames for 2 sessions"):
            batch.step(sessions, [spoken[0][0]])


# Not in the forms of a GPU: on a CPU MLX takes its fused rotation apart, and into other
# parts once rows stand at different positions.
@pytest.mark.cpu_forms
@pytest.mark.parametrize("joint_codec", [False, True])
def test_a_long_batch_uses_no_operation_that_its_warmup_did_not(
    moshi, tmp_path, joint_codec
):
    """Rows come and go, stand still, and have settings of their own."""
    mimi = random_mimi()
    lm = tiny.lm(card=16, context=30, num_layers=1, depformer_num_layers=1)
    small = Moshi(moshi.info, lm, moshi.tokenizer, lambda: NativeCodec(mimi))
    with operations(tmp_path) as warm:
        batch = Batch(small, 3, joint_codec=joint_codec)
        batch.warmup()
    frame = np.ones(mimi.frame_size, np.float32)
    wishes = [
        Sampling(seed=1),
        Sampling(seed=2, temp=1.0),
        Sampling(seed=3, repetition_penalty=1.2),
    ]
    sessions = [batch.open(one) for one in wishes]
    with operations(tmp_path) as later:
        for step in range(100):
            if step % 40 == 30:
                sessions[1].close()
                sessions[1] = batch.open(wishes[step % 3])
            moving = [s for i, s in enumerate(sessions) if (step + i) % 7 or step < 20]
            batch.step(moving, [frame] * len(moving))
    assert len(later) > 10
    assert later <= warm


def test_each_row_has_one_codec_however_many_conversations_it_has(moshi, spoken):
    made: list[Codec] = []

    def make() -> Codec:
        made.append(moshi.make_codec())
        return made[-1]

    small = Moshi(moshi.info, moshi.lm, moshi.tokenizer, make)
    with Batch(small, 2, joint_codec=False) as batch:
        said = []
        for _ in range(3):
            with batch.open(Sampling(seed=1)) as session:
                replies = [session.step(frame) for frame in spoken[0][:4]]
                said.append(np.array([r.pcm for r in replies if r.pcm is not None]))
        assert len(made) == 2
        np.testing.assert_array_equal(said[0], said[1])
        np.testing.assert_array_equal(said[0], said[2])


@pytest.mark.parametrize("joint_codec", [False, True])
def test_frames_that_overlap_write_keys_and_values_where_they_are(moshi, joint_codec):
    """A copy of a ring would cost memory and time in every frame."""
    mimi = random_mimi()
    lm = tiny.lm(card=16, context=30, num_layers=1, depformer_num_layers=1)
    small = Moshi(moshi.info, lm, moshi.tokenizer, lambda: NativeCodec(mimi))
    batch = Batch(small, 2, joint_codec=joint_codec)
    batch.warmup()
    sessions = [batch.open(Sampling(seed=seed)) for seed in range(2)]
    frame = np.ones(mimi.frame_size, np.float32)
    codec = batch.stepper.codec
    codecs: Any = codec
    codecs = codec.codecs if isinstance(codec, SeparateCodecs) else [codecs._codec]
    states = [each.state for each in codecs]
    places = []
    for _ in range(70):
        batch.step(sessions, [frame] * 2)
        caches = [*batch.stepper.gen.cache]
        for state in states:
            caches += [*state.encoder.caches, *state.decoder.caches]
        rings = [array for cache in caches for array in cache.self_attn.state]
        assert len(rings) >= 2 + 8 * len(states)
        places.append([np.asarray(ring).ctypes.data for ring in rings])
    assert places[5:] == [places[5]] * 65
    batch.close()


@pytest.mark.parametrize("joint_codec", [False, True])
def test_a_conversation_moves_between_batches_and_sessions(moshi, spoken, joint_codec):
    """Kept in one batch, continued alone and in another, while a second one goes on."""
    wishes = Sampling(seed=1, temp=6.0, temp_text=3.0)
    frames = spoken[0]
    whole = alone(moshi, wishes, frames)
    batch = Batch(moshi, 2, joint_codec=joint_codec)
    first, beside = batch.open(wishes), batch.open(Sampling(seed=2))
    for frame in frames[:6]:
        batch.step([first, beside], [frame, frame])
    kept = first.snapshot()
    session = moshi.session(3, temp=6.0, temp_text=3.0, first="silence")
    session.restore(kept)
    assert_same([session.step(frame) for frame in frames[6:10]], whole[6:10])
    other = Batch(moshi, 2, joint_codec=joint_codec)
    beside, second = other.open(Sampling(seed=2)), other.open(wishes)
    second.restore(session.snapshot())
    heard = [other.step([beside, second], [f, f])[1] for f in frames[10:]]
    assert_same(heard, whole[10:])


def test_sessions_and_batches_are_freed_with_their_last_user(moshi):
    """At once, as their keys and values are large: closed or not, in a batch or not."""
    frame = np.zeros(1920, np.float32)
    gc.collect()
    gc.disable()
    try:
        sessions = [moshi.session(1), moshi.session(2)]
        sessions[0].step(frame)
        sessions[1].step(frame)
        sessions[0].close()
        batch = moshi.batch(2)
        sessions.append(batch.open())
        gone = [weakref.ref(one) for one in (*sessions, sessions[1].stepper, batch)]
        del sessions
        assert batch.open().row == 0, "a row that nobody holds is free"
        del batch
        assert [one() for one in gone] == [None] * 5
    finally:
        gc.enable()


@pytest.mark.parametrize("joint_codec", [False, True])
def test_a_batch_s_frame_is_started_whole_too(moshi, spoken, joint_codec):
    batch = Batch(moshi, 2, joint_codec=joint_codec)
    sessions = [batch.open(Sampling(seed=seed)) for seed in range(2)]
    first, second, *_ = zip(*spoken, strict=True)
    batch.step(sessions, first)
    with device_calls() as calls:
        replies = batch.step(sessions, second)
    assert all(reply.pcm is not None for reply in replies)
    codecs = 1 if joint_codec else 2
    starts = codecs + 1 + codecs  # encoders, step, decoders
    assert calls == [START] * starts + [WAIT] * 3 + [READ] * 4
    batch.close()


def test_a_codec_with_fewer_codes_than_the_model_says_is_refused(moshi):
    """Codes go from one to the other unseen: a wrong one would read foreign memory."""
    lm = tiny.lm(card=17)
    other = Moshi(moshi.info, lm, moshi.tokenizer, lambda: NativeCodec(random_mimi()))
    with pytest.raises(ConfigError, match=r"codes up to 16, .* up to 15"):
        Batch(other, 1)
