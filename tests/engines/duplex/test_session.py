"""One conversation: what it hears first, what it returns, what it refuses."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import cast

import mlx.core as mx
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.audio import FRAME, frames
from moshi_mlx.codec import Codec, NativeCodec, RustCodec
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.errors import AudioError, ConfigError
from moshi_mlx.models import LmGen
from moshi_mlx.models.snapshot import Snapshot
from moshi_mlx.utils import Sampler
from tests.questions import QUESTIONS
from tests.waits import READ, START, WAIT, device_calls

SILENCE = np.zeros(FRAME, np.float32)


@pytest.fixture(scope="module")
def moshi() -> Moshi:
    return moshi_mlx.load("demo")


def heard_by(moshi: Moshi, columns: list[np.ndarray]) -> list[int]:
    """Text tokens of a generation that is given codes ``[other]``, one call each."""
    greedy = Sampler(temp=0)
    gen = LmGen(moshi.lm, text_sampler=greedy, audio_sampler=greedy)
    steps = [gen.step(mx.array(codes)[None]) for codes in columns]
    return [int(np.array(text)[0, 0]) for text, _ in steps]


def codes_of(moshi: Moshi, pcm: list[np.ndarray]) -> list[np.ndarray]:
    codec = moshi.make_codec()
    return [codec.encode_step(frame[None, None])[0, :, 0] for frame in pcm]


def test_the_first_frame_of_a_file_is_given_twice(moshi):
    pcm = list(frames(QUESTIONS[0].path))[:30]
    session = moshi.session(temp=0, temp_text=0)
    said = [session.step(frame).text_token for frame in pcm]
    codes = codes_of(moshi, pcm)
    assert said == heard_by(moshi, [codes[0], *codes])[1:]
    assert session.steps == len(pcm)


def test_a_live_session_begins_with_silence(moshi):
    pcm = list(frames(QUESTIONS[0].path))[:30]
    session = moshi.session(temp=0, temp_text=0, first="silence")
    said = [session.step(frame).text_token for frame in pcm]
    assert said == heard_by(moshi, codes_of(moshi, [SILENCE, *pcm]))[1:]


def test_a_reply_carries_sound_text_and_codes(moshi):
    session = moshi.session(seed=0, temp=0, temp_text=0)
    replies = [session.step(frame) for frame in frames(QUESTIONS[0].path)]
    assert all(r.pcm is not None and r.pcm.shape == (FRAME,) for r in replies)
    assert all(r.tokens is not None and r.tokens.shape == (8,) for r in replies)
    assert "".join(r.text for r in replies).strip() == QUESTIONS[0].answer
    codec = moshi.make_codec()
    again = [codec.decode_step(r.tokens[None, :, None])[0, 0] for r in replies]
    np.testing.assert_array_equal(np.stack(again), np.stack([r.pcm for r in replies]))


def test_stages_are_timed(moshi):
    session = moshi.session()
    for _ in range(3):
        session.step(SILENCE)
    timed = session.trace.summary()
    assert list(timed) == ["encode", "step", "decode", "frame"]
    assert timed["frame"].count == 3
    assert timed["step"].count == 4  # the first frame is given twice


@pytest.mark.parametrize("shape", [(FRAME - 1,), (1, FRAME), (0,)])
def test_a_frame_of_another_length_is_refused(moshi, shape):
    with pytest.raises(ConfigError, match=r"give one frame, float32 \[1920\]"):
        moshi.session().step(np.zeros(shape, np.float32))


@pytest.mark.parametrize("value", [np.float32("nan"), np.float32("inf")])
def test_samples_that_are_no_sound_are_refused(moshi, value):
    with pytest.raises(ConfigError, match="give float32 from -1 to 1"):
        moshi.session().step(np.full(FRAME, value))


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int64, bool])
def test_whole_numbers_of_unknown_scale_are_refused(moshi, kind):
    with pytest.raises(AudioError, match="give float32 from -1 to 1, int16 or int32"):
        moshi.session().step(np.ones(FRAME, kind))


@pytest.mark.parametrize("kind", [np.int16, np.int32])
def test_whole_numbers_are_heard_as_the_sound_that_they_are(moshi, kind):
    pcm = np.sin(np.arange(3 * FRAME) / 20).astype(np.float32).reshape(3, FRAME) / 2
    whole = (pcm * np.iinfo(kind).max).astype(kind)
    scaled = (whole / -float(np.iinfo(kind).min)).astype(np.float32)
    sessions = [moshi.session(0, temp=0, temp_text=0) for _ in range(2)]
    for a, b in zip(whole, scaled, strict=True):
        replies = [s.step(f) for s, f in zip(sessions, (a, b), strict=True)]
        np.testing.assert_array_equal(*(reply.pcm for reply in replies))


@pytest.mark.parametrize("seed", [-1, 2**64, "x"])
def test_a_seed_that_cannot_be_is_named(moshi, seed):
    with pytest.raises(ConfigError, match=f"the seed {seed!r}"):
        moshi.session(seed)


def test_two_threads_at_once_are_refused_and_one_after_another_are_not(moshi):
    session = moshi.session(temp=0, temp_text=0)
    alone = moshi.session(temp=0, temp_text=0)
    inside, leave = Event(), Event()
    encode = session.stepper.codec.encode

    def slow_encode(frames: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        inside.set()
        assert leave.wait(120)
        return encode(frames)

    session.stepper.codec.encode = slow_encode
    with ThreadPoolExecutor(1) as other:
        first = other.submit(session.step, SILENCE)
        assert inside.wait(120)
        with pytest.raises(RuntimeError, match="another thread is in it"):
            session.step(SILENCE)
        leave.set()
        said = [first.result(), *(session.step(SILENCE) for _ in range(3))]
    expected = [alone.step(SILENCE).text_token for _ in said]
    assert [reply.text_token for reply in said] == expected


def test_an_unknown_first_is_refused(moshi):
    with pytest.raises(ConfigError, match="'twice' or 'silence'"):
        moshi.session(first="never")  # type: ignore[arg-type]


def test_a_model_that_does_not_listen_says_what_to_use():
    moshi = moshi_mlx.load_moshi("tests/data/tts")
    with pytest.raises(ConfigError, match="moshi-mlx speak"):
        moshi.session()


def test_a_conversation_goes_on_from_a_file(moshi, tmp_path):
    """Sound and text, to the bit, in a session that had begun another one."""
    pcm = list(frames(QUESTIONS[0].path))[:40]
    session = moshi.session(seed=4, first="silence")
    for frame in pcm[:20]:
        session.step(frame)
    session.snapshot().save(tmp_path / "talk.safetensors")
    later = [session.step(frame) for frame in pcm[20:]]
    other = moshi.session(seed=5, first="silence")
    other.step(pcm[0])
    other.restore(Snapshot.load(tmp_path / "talk.safetensors"))
    assert other.steps == 20
    for mine, frame in zip(later, pcm[20:], strict=True):
        reply = other.step(frame)
        assert (reply.text_token, reply.text) == (mine.text_token, mine.text)
        np.testing.assert_array_equal(reply.pcm, mine.pcm)


def test_the_rust_codec_s_conversation_is_not_kept(moshi):
    codec = RustCodec.__new__(RustCodec)  # the wheel is not needed to refuse
    session = moshi.session()
    session.stepper.codec.codecs = [codec]
    kept = moshi.session(seed=1).snapshot()
    with pytest.raises(ConfigError, match="cannot save what it remembers: use --codec"):
        session.snapshot()
    with pytest.raises(ConfigError, match="cannot continue from a snapshot: use --cod"):
        session.restore(kept)


def test_a_scratch_frame_leaves_no_trace(moshi):
    rng = np.random.default_rng(3)
    heard = rng.normal(0, 0.05, (4, FRAME)).astype(np.float32)
    told = []
    for idle in (False, True):
        with moshi.session(seed=5) as session:
            exposed, replies = moshi.lm.transformer_cache, []
            for frame in heard:
                if idle:
                    moshi.owner.run(moshi.scratch_frame)
                replies.append(session.step(frame))
            assert moshi.lm.transformer_cache is exposed
        told.append([reply.text_token for reply in replies])
    assert told[0] == told[1]


def test_a_frame_is_started_whole_before_anything_is_waited_for(moshi):
    session = moshi.session()
    for _ in range(3):
        session.step(SILENCE)
    with device_calls() as calls:
        assert session.step(SILENCE).pcm is not None
    # encoder, step, decoder; codes, tokens, sound; text, codes and sound are copied
    assert calls == [START] * 3 + [WAIT] * 3 + [READ] * 3


def test_the_first_frame_s_two_steps_run_one_after_the_other(moshi):
    """A step that is started while another runs would copy all keys and values."""
    moshi.session().step(SILENCE)  # derives what is derived from weights
    session = moshi.session()
    with device_calls() as calls:
        session.step(SILENCE)
    asked = [call for call in calls if call != READ]
    first = [START] * 2 + [WAIT] * 2  # encoder and step, codes and tokens
    assert asked == [*first, START, START, WAIT, WAIT]  # step and decoder


class InNumPy:
    """A codec that computes elsewhere, as the rust one does: it takes what is there."""

    def __init__(self, codec: NativeCodec):
        self._codec = codec

    def __getattr__(self, name: str):
        return getattr(self._codec, name)

    def decode_step(self, codes: np.ndarray) -> np.ndarray:
        assert isinstance(codes, np.ndarray)
        return self._codec.decode_step(codes)


def test_a_codec_that_computes_elsewhere_says_the_same(moshi):
    other = Moshi(
        moshi.info,
        moshi.lm,
        moshi.tokenizer,
        lambda: cast(Codec, InNumPy(moshi.make_codec())),
        moshi.owner,
    )
    sessions = [one.session(3) for one in (moshi, other)]
    for frame in list(frames(QUESTIONS[0].path))[:5]:
        mine, its = (session.step(frame) for session in sessions)
        assert mine.text_token == its.text_token
        np.testing.assert_array_equal(mine.tokens, its.tokens)
        np.testing.assert_array_equal(mine.pcm, its.pcm)
    assert list(sessions[1].trace.summary()) == ["encode", "step", "decode", "frame"]
