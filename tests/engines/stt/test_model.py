"""Files and live sound: the same words, whatever the sizes of what comes."""

import numpy as np
import pytest

from moshi_mlx.audio import decode, long
from moshi_mlx.audio.files import write_wav
from moshi_mlx.engines.stt import EndOfTurn, Event, STTModel, Transcript, Word
from moshi_mlx.errors import AudioError, ConfigError
from tests.listening import listener, noise
from tests.speech import speaker


def live(stt: STTModel, pcm: np.ndarray, size: int) -> Transcript:
    session, events = stt.session(), []
    for start in range(0, len(pcm), size):
        events += session.feed(pcm[start : start + size])
    events += session.flush()
    return Transcript.of(events, session.time_s)


@pytest.mark.parametrize("prefix_s", [0.0, 0.1, 1.0])
def test_live_words_are_the_files_words_for_any_block_size(prefix_s: float):
    stt, pcm = listener(0.5, prefix_s), noise(3.2)
    expected = stt.transcribe(pcm)
    assert len(expected.words) > 5
    for size in (1920, 700, len(pcm)):
        found = live(stt, pcm, size)
        assert found.text == expected.text
        for a, b in zip(found.words, expected.words, strict=True):
            assert a.start_s == pytest.approx(b.start_s, abs=0.01)
            assert a.end_s == pytest.approx(b.end_s, abs=0.01)


def test_a_long_file_is_read_while_it_is_heard(tmp_path, monkeypatch):
    stt, pcm = listener(), noise(7.4)
    write_wav(tmp_path / "a.wav", pcm)
    whole = stt.transcribe(tmp_path / "a.wav")
    monkeypatch.setattr(long, "LONG_S", 1.0)
    monkeypatch.setattr(decode, "PIECE_S", 2)
    assert isinstance(long.open_sound(tmp_path / "a.wav"), long.LongSound)
    assert stt.transcribe(tmp_path / "a.wav") == whole


def test_bytes_and_an_open_file_are_heard_as_the_file(tmp_path):
    stt, path = listener(), tmp_path / "a.wav"
    write_wav(path, noise(1.0))
    expected = stt.transcribe(path)
    assert stt.transcribe(path.read_bytes()) == expected
    with path.open("rb") as file:
        assert stt.transcribe(file) == expected


@pytest.mark.parametrize("delay_s, prefix_s", [(0.5, 0.0), (2.5, 1.0)])
def test_times_are_within_the_sound(delay_s: float, prefix_s: float):
    found = listener(delay_s, prefix_s).transcribe(noise(2.0))
    times = [t for word in found.words for t in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert times[0] >= 0 and times[-1] <= 2.0 == found.duration_s


def test_a_word_is_placed_a_delay_before_it_is_written():
    pcm = noise(4.0)
    early, late = listener(0.0).transcribe(pcm), listener(0.5).transcribe(pcm)
    words = {w.text: w for w in early.words if 1.0 < w.start_s < 3.0}
    moved = [w.start_s - words[w.text].start_s for w in late.words if w.text in words]
    assert len(words) > 3
    assert np.median(moved) == pytest.approx(-0.5, abs=0.09)


def test_files_of_a_batch_get_what_they_get_alone(tmp_path):
    stt = listener()
    sounds = [noise(2.3, 1), noise(0.03, 2), noise(3.1, 3), np.zeros(24000, np.float32)]
    paths = []
    for i, pcm in enumerate(sounds):
        paths.append(tmp_path / f"{i}.wav")
        write_wav(paths[-1], pcm)
    progress: list[float] = []
    together = stt.transcribe_all(paths, on_progress=progress.append)
    assert together == [stt.transcribe(path) for path in paths]
    total = sum(len(pcm) for pcm in sounds) / 24000
    assert sum(progress) == pytest.approx(total, abs=0.02)
    assert together[0].words != together[2].words


def test_another_rate_and_two_channels_are_read(tmp_path):
    stt, pcm = listener(), noise(2.0)
    path = tmp_path / "stereo.wav"
    write_wav(path, np.stack([pcm[::3], pcm[::3]]), 8000)
    assert stt.transcribe(path).duration_s == pytest.approx(2.0, abs=0.01)


def test_events_tell_what_the_transcript_holds():
    events: list[Event] = []
    found = listener().transcribe(noise(3.0), on_event=events.append)
    assert [e for e in events if isinstance(e, Word)] == found.words
    assert [w for turn in found.turns for w in turn.words] == found.words
    assert len(found.turns) <= 1 + sum(isinstance(e, EndOfTurn) for e in events)
    assert found.text == " ".join(turn.text for turn in found.turns)


def test_after_a_flush_more_may_come_and_times_go_on():
    session = listener().session()
    first = [*session.feed(noise(1.5, 4)), *session.flush()]
    assert session.time_s == 1.5
    rest = [*session.feed(noise(1.5, 5)), *session.flush()]
    ends = [w.end_s for w in first if isinstance(w, Word)]
    starts = [w.start_s for w in rest if isinstance(w, Word)]
    assert ends and starts and max(ends) <= 1.5 <= min(starts) + 0.6
    assert isinstance(first[-1], EndOfTurn)


def test_reset_forgets_everything():
    session, pcm = listener(0.5, 0.1).session(), noise(2.0)
    first = [*session.feed(pcm), *session.flush()]
    session.reset()
    assert session.time_s == 0
    assert [*session.feed(pcm), *session.flush()] == first


def test_live_state_is_flat():
    session = listener().session()
    session.feed(noise(20.0))
    before = session.nbytes
    session.feed(noise(15.0))
    assert session.nbytes == before and session.refreshes >= 1


def test_pauses_are_named():
    assert listener().pause_lengths_s == (0.5, 1.0, 2.0, 3.0)
    assert listener(heads=0).pause_lengths_s == ()


def test_what_is_no_sound_is_refused(tmp_path):
    stt = listener()
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(AudioError, match=r"text\.wav"):
        stt.transcribe(tmp_path / "text.wav")
    with pytest.raises(AudioError, match=r"float32 \[samples\] at 24000 Hz"):
        stt.transcribe(np.zeros((2, 100), np.float32))
    with pytest.raises(AudioError, match="one channel"):
        stt.session().feed(np.zeros((2, 100), np.float32))
    assert stt.transcribe_all([]) == []


def test_a_model_of_another_kind_is_refused():
    stt, tts = listener(), speaker()
    with pytest.raises(ConfigError, match="not that of a speech-to-text model"):
        STTModel(tts.lm, tts.mimi, tts.tokenizer, {"tts_config": {}})
    with pytest.raises(ConfigError, match="not that of a speech-to-text model"):
        STTModel(stt.lm, stt.mimi, stt.tokenizer, {})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused_and_leave_no_trace(bad: float):
    stt, pcm = listener(0.5), noise(2.0)
    broken = pcm.copy()
    broken[100] = bad
    with pytest.raises(AudioError, match="NaN or infinite"):
        stt.transcribe(broken)
    session = stt.session()
    events = session.feed(pcm[:5000])
    with pytest.raises(AudioError, match=r"feed: .* NaN or infinite"):
        session.feed(broken)
    events += [*session.feed(pcm[5000:]), *session.flush()]
    found = Transcript.of(events, session.time_s)
    assert found.words and found.text == stt.transcribe(pcm).text


def test_a_session_that_heard_nothing_can_be_flushed():
    session = listener(prefix_s=0.3).session()
    session.flush()
    assert session.time_s == 0
    assert session.feed(noise(1.0))
