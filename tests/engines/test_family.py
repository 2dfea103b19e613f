"""What the engines for speech to text, speech and text have in common."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.audio.files import read
from moshi_mlx.engines.load import load_stt, load_text, load_tts
from moshi_mlx.engines.stt import STTModel, Transcript, Word
from moshi_mlx.engines.stt.files import FileFailure, FileTranscript
from moshi_mlx.engines.text import TextModel
from moshi_mlx.engines.tts import TTSModel
from moshi_mlx.engines.tts.script_file import Failure, read_scripts
from moshi_mlx.errors import AudioError, ConfigError
from tests.family import listening, writing
from tests.listening import noise
from tests.speech import TTS, VOICES

TEXT = "hello there how are you"
VOICE = str(VOICES["a"])


@pytest.fixture(scope="module")
def stt(tmp_path_factory) -> STTModel:
    return load_stt(listening(tmp_path_factory.mktemp("stt")))


@pytest.fixture(scope="module")
def tts() -> TTSModel:
    return load_tts(TTS, temp=0.0, voice_repo=str(TTS))


@pytest.fixture(scope="module")
def writer(tmp_path_factory) -> TextModel:
    return load_text(writing(tmp_path_factory.mktemp("text")))


async def blocks(pcm: np.ndarray, size: int = 4000):
    for start in range(0, len(pcm), size):
        yield pcm[start : start + size]


async def pieces(*texts: str):
    for text in texts:
        yield text


async def collected(values) -> list:
    return [value async for value in values]


def test_any_thread_gets_what_one_thread_gets(stt, tts, writer):
    def work(seed: int) -> tuple:
        heard = stt.transcribe(noise(1.0, seed))
        said = tts.say(TEXT, VOICE, seed=seed).pcm
        written = list(writer.complete(TEXT, 5, seed=seed))
        return heard, said.tobytes(), written

    alone = [work(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(work, range(3))) == alone


def test_a_session_may_be_moved_from_thread_to_thread(stt):
    pcm = noise(1.2)
    expected = stt.transcribe(pcm).words
    with stt.session() as session, ThreadPoolExecutor(4) as pool:
        found = []
        for start in range(0, len(pcm), 5000):
            part = pcm[start : start + 5000]
            found += pool.submit(session.feed, part).result()
        found += pool.submit(session.flush).result()
    assert [e.text for e in found if isinstance(e, Word)] == [w.text for w in expected]


def test_the_async_twins_give_the_same(stt, tts, writer):
    pcm = noise(1.0)

    async def all_at_once():
        session = stt.session()
        return await asyncio.gather(
            collected(session.alisten(blocks(pcm))),
            stt.atranscribe(pcm),
            collected(tts.astream(pieces(TEXT[:7], TEXT[7:]), VOICE, seed=1)),
            tts.asay(TEXT, VOICE, seed=1),
            collected(writer.acomplete(TEXT, 6, seed=3)),
        )

    events, transcript, frames, audio, written = asyncio.run(all_at_once())
    assert [e for e in events if isinstance(e, Word)] == transcript.words
    assert transcript == stt.transcribe(pcm)
    assert np.concatenate(frames).tobytes() == audio.pcm.tobytes()
    assert audio.pcm.tobytes() == tts.say(TEXT, VOICE, seed=1).pcm.tobytes()
    assert written == list(writer.complete(TEXT, 6, seed=3))


def test_a_text_may_go_on_where_it_stopped(writer):
    whole = list(writer.complete(TEXT, 9, temp=0.0))
    with writer.session(TEXT, temp=0.0) as session:
        assert [*session.write(2), *session.write(3), *session.write(4)] == whole
        assert session.tokens == len(whole)


def test_whole_numbers_and_other_rates_are_the_same_sound(stt):
    pcm = noise(1.0)
    whole = (pcm * 20000).astype(np.int16)
    assert stt.transcribe(whole) == stt.transcribe(whole / np.float32(32768))
    slow = pcm[::3]
    with stt.session(sample_rate=8000) as session:
        events = [*session.feed(slow), *session.flush()]
    found = [e.text for e in events if isinstance(e, Word)]
    assert found == [w.text for w in stt.transcribe(slow, sample_rate=8000).words]
    with pytest.raises(AudioError, match=r"^feed: one channel of sound \[S\]"):
        stt.session().feed(np.zeros((1, 1920), np.float32))


def calls(stt: STTModel, tts: TTSModel, writer: TextModel) -> dict:
    listener, speaker = stt.session(), tts.session(VOICE)
    text = writer.session(TEXT)
    return {
        "feed": (listener, partial(listener.feed, noise(0.1))),
        "flush": (listener, listener.flush),
        "finish": (speaker, speaker.finish),
        "write": (text, partial(text.write, 1)),
    }


@pytest.mark.parametrize("name", ["feed", "flush", "finish", "write"])
def test_a_closed_session_is_refused_by_the_name_of_the_call(name, stt, tts, writer):
    session, call = calls(stt, tts, writer)[name]
    with session:
        pass
    session.close()  # once more does no harm
    with pytest.raises(ConfigError, match=f"^{name}: this .*Session is closed"):
        call()
    assert "closed" in repr(session)


def test_repr_tells_model_size_bits_and_state(stt, tts, writer):
    for model in (stt, tts, writer):
        assert f"{type(model).__name__} {model.name}" in repr(model)
        assert "parameters" in repr(model) and "bits each" in repr(model)
    session = stt.session()
    session.feed(noise(0.4))
    assert "0.4 s heard" in repr(session)
    assert "open, 0 words" in repr(tts.session(VOICE))
    assert "0 tokens" in repr(writer.session(TEXT))


def test_a_transcript_becomes_subtitles_and_json():
    words = [Word("hello", 0.5, 0.9), Word("there", 1.0, 1.5)]
    found = Transcript.of(words, 2.0)
    assert found.to_srt() == "1\n00:00:00,500 --> 00:00:02,500\nhello there\n\n"
    assert found.to_vtt().startswith("WEBVTT\n\n00:00:00.500 --> 00:00:02.500\n")
    about = json.loads(json.dumps(found.to_dict()))
    assert about["words"][0] == {"text": "hello", "start_s": 0.5, "end_s": 0.9}
    assert about["turns"] == [{"start_s": 0.5, "end_s": 1.5, "text": "hello there"}]
    assert (about["duration_s"], about["text"]) == (2.0, "hello there")


def test_speech_is_saved_and_voices_are_listed(tts, stt, tmp_path):
    audio = tts.say(TEXT, VOICE)
    audio.save(tmp_path / "a.wav")
    assert stt.samples(tmp_path / "a.wav") == pytest.approx(audio.pcm, abs=1e-4)
    assert f"{audio.duration_s:.2f} s" in repr(audio)
    assert tts.voices() == ["voice_a.wav", "voice_b.wav"]
    assert tts.voices("_B") == ["voice_b.wav"]


def test_many_files_are_a_function_with_progress(stt, tts, tmp_path):
    for name in ("a", "b"):
        tts.speak(TEXT, VOICE, out=tmp_path / f"{name}.wav")
    (tmp_path / "c.wav").write_text("no sound")
    paths = [tmp_path / f"{name}.wav" for name in "abc"]
    shares: list[float] = []
    told: list[Path] = []
    results = stt.transcribe_files(
        paths,
        forms=["srt", "json"],
        out_folder=tmp_path,
        batch_size=2,
        on_file=lambda result: told.append(result.path),
        on_progress=shares.append,
    )
    assert [type(r) for r in results] == [FileTranscript, FileTranscript, FileFailure]
    assert told == paths
    assert shares == sorted(shares) and shares[-1] == pytest.approx(2 / 3, abs=0.01)
    written = json.loads((tmp_path / "a.json").read_text())
    assert written == stt.transcribe(paths[0]).to_dict()["words"]


def test_many_scripts_are_a_function_with_progress(tts, tmp_path):
    good = {"turns": [TEXT], "voices": [VOICE], "id": "one"}
    told: list[Path | Failure] = []
    results = tts.say_scripts(
        read_scripts(f"{json.dumps(good)}\nnot a script"),
        tmp_path,
        seed=1,
        only_wav=True,
        on_result=told.append,
    )
    failure, path = results
    assert told == results and path == tmp_path / "one.wav"
    assert isinstance(failure, Failure) and failure.line == 2
    said = tts.say(TEXT, VOICE, seed=1).pcm
    np.testing.assert_allclose(read(path)[0][: len(said)], said, atol=1e-4)


def test_top_p_draws_from_fewer_tokens(tts):
    narrow = load_tts(TTS, temp=1.0, top_p=1e-6, voice_repo=str(TTS))
    greedy = tts.say(TEXT, VOICE).pcm
    assert narrow.say(TEXT, VOICE, seed=5).pcm.tobytes() == greedy.tobytes()
