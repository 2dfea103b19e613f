"""Streamed speech: the same sound as from the whole text, as early as it can be."""

import logging

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.audio.files import write_wav
from moshi_mlx.engines.tts import Audio, TTSModel
from moshi_mlx.errors import AudioError, CheckpointError, ConfigError
from tests.speech import EXPECTED, PREFIX, TTS, VOICES, speaker

TEXT = 'hello there how are <break time="0.4s"/> you today in paris'
VOICE = VOICES["a"]
RECORDING = TTS / "voice.wav"


def offline(tts: TTSModel, script: str) -> np.ndarray:
    """The sound of ``TTSModel.generate``."""
    expected = EXPECTED[script]
    result = tts.generate(
        [tts.prepare_script(expected["script"], expected["padding_between"])],
        [tts.make_condition_attributes([VOICES[v] for v in expected["voices"]], 2.0)],
    )
    pcm = tts.mimi.decode(mx.concatenate(result.frames, axis=-1))
    return np.clip(np.array(pcm[0, 0]), -1, 1)


@pytest.mark.parametrize("script", ["single_between1", "dialogue_between0"])
def test_says_what_generate_says(script: str):
    tts, expected = speaker(), EXPECTED[script]
    said = tts.say(
        expected["script"],
        [VOICES[name] for name in expected["voices"]],
        padding_between=expected["padding_between"],
    )
    np.testing.assert_allclose(said.pcm, offline(tts, script), atol=1e-5)
    assert said.sample_rate == 24000
    starts = [[w.text, round(w.start_s * 12.5)] for w in said.words]
    assert starts == expected["transcript"]
    ends = [round(w.end_s * 12.5) for w in said.words]
    assert ends == [*expected["consumption_times"][1:], expected["end_step"]]


def test_a_word_before_a_break_ends_where_the_break_begins():
    words = {w.text: w for w in speaker().say(TEXT, VOICE).words}
    assert words["you"].start_s - words["are"].end_s >= 0.4
    assert words["are"].start_s == words["how"].end_s


@pytest.mark.parametrize("temp", [0.0, 0.7])
@pytest.mark.parametrize("size", [1, 3, 11])
def test_pieces_of_any_size_make_the_same_sound(size: int, temp: float):
    tts = speaker(temp=temp)
    whole = tts.say(TEXT, VOICE, seed=5)
    pieces = [TEXT[i : i + size] for i in range(0, len(TEXT), size)]
    frames = list(tts.stream(pieces, VOICE, seed=5))
    assert {frame.shape for frame in frames} == {(1920,)}
    np.testing.assert_array_equal(np.concatenate(frames), whole.pcm)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_continues_a_recording_without_repeating_it(guidance: float):
    tts = speaker(PREFIX)
    said = tts.say(TEXT, RECORDING, guidance=guidance, seed=1)
    frames = list(tts.stream(TEXT, RECORDING, guidance=guidance, seed=1))
    np.testing.assert_array_equal(np.concatenate(frames), said.pcm)
    assert said.words[0].start_s == pytest.approx(2 / 12.5)  # not after the recording
    assert said.to_srt().startswith("1\n00:00:00,160 --> ")
    assert said.to_vtt().startswith("WEBVTT\n\n00:00:00.160 --> ")
    assert len(said.pcm) / 24000 == pytest.approx(said.words[-1].end_s + 0.16, abs=0.01)


def same_words(audio: Audio) -> list[str]:
    return [word.text for word in audio.words]


def test_the_first_frame_comes_before_the_last_word_is_known():
    tts = speaker()
    session = tts.session(VOICE)
    frames, needed = 0, 0
    for word in TEXT.split():
        frames += len(list(session.feed(f"{word} ")))
        needed += 1
        if frames:
            break
    assert needed < len(TEXT.split()) - 2
    assert session.steps_to_sound == tts.delay_steps + 2
    assert not session.finished


def test_waits_for_text_rather_than_pausing_in_the_speech():
    session = speaker().session(VOICE)
    heard = len(list(session.feed("hello there how ")))
    assert len(list(session.feed(""))) == 0
    assert len(list(session.feed("are you "))) > 0
    before = session.words
    rest = list(session.finish())
    assert len(rest) > 0 and heard >= 0
    assert [w.text for w in session.words][: len(before)] == [w.text for w in before]


def test_frames_not_asked_for_come_later():
    tts = speaker()
    whole = tts.say(TEXT, VOICE).pcm
    session = tts.session(VOICE)
    session.feed(TEXT)
    np.testing.assert_array_equal(np.concatenate(list(session.finish())), whole)


def test_two_speeches_at_once_do_not_touch():
    tts = speaker(temp=0.7)
    alone = [tts.say(TEXT, VOICES[v], seed=3).pcm for v in "ab"]
    assert (alone[0][:20000] != alone[1][:20000]).any()
    sessions = [tts.session(VOICES[v], seed=3) for v in "ab"]
    heard: list[list[np.ndarray]] = [[], []]
    for word in TEXT.split(" "):
        for session, frames in zip(sessions, heard, strict=True):
            frames += session.feed(f"{word} ")
    for session, frames, whole in zip(sessions, heard, alone, strict=True):
        frames += session.finish()
        np.testing.assert_array_equal(np.concatenate(frames), whole)


def test_state_does_not_grow_with_the_speech():
    tts = speaker()
    session = tts.session(VOICE)
    sizes = []
    for _ in range(6):
        for _ in session.feed("hello there how are you today "):
            pass
        caches = [layer.self_attn.nbytes for layer in session.run.gen.cache]
        sizes.append(sum(caches) + session.codec_state.nbytes)
    assert session.run.offset > 3 * tts.lm.cfg.transformer.context
    assert sizes[-1] == sizes[-3]


def test_characters_without_tokens_are_left_out_and_named(caplog):
    with caplog.at_level(logging.WARNING):
        said = speaker().say("hello \u2603 there", VOICE)
    assert same_words(said) == ["hello", "there"]
    assert "\u2603" in caplog.text


@pytest.mark.parametrize("text", ["", "  \n", "\u0434\u0430", '<break time="1s"/>'])
def test_a_text_without_words_is_refused(text: str):
    with pytest.raises(ConfigError, match="no words"):
        speaker().say(text, VOICE)


def test_a_finished_speech_takes_no_more_text():
    session = speaker().session(VOICE)
    list(session.feed("hello "))
    list(session.finish())
    for more in (
        lambda: session.feed("there"),
        session.finish,
        lambda: session.turn(1),
    ):
        with pytest.raises(ConfigError, match="start a new session"):
            more()


def test_voices_are_checked_when_the_session_opens(tmp_path):
    with pytest.raises(ConfigError, match="exactly one recording"):
        speaker(PREFIX).session([RECORDING, RECORDING])
    with pytest.raises(ConfigError, match=r"3 voices .* 2 speakers"):
        speaker().session([VOICE] * 3)
    with pytest.raises(CheckpointError, match=r"tts-0\.75b-en-public"):
        speaker().session(RECORDING)
    write_wav(tmp_path / "short.wav", np.zeros(720, np.float32))
    with pytest.raises(AudioError, match="too short"):
        speaker(PREFIX).session(tmp_path / "short.wav")
