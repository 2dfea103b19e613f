"""Sessions that listen, speak and write are kept, saved, and continued."""

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.engines.tts import SpeechSession
from moshi_mlx.errors import ConfigError
from moshi_mlx.models.snapshot import Snapshot
from moshi_mlx.utils import Sampler
from tests.family import listening, writing
from tests.listening import listener, noise
from tests.speech import TTS, VOICES, speaker

PIECES = ["hel", 'lo there <break time="0.4s"/> how ar', "e you today in ", "paris"]
BLOCK = 3000  # samples: no whole number of frames


def through_a_file(snapshot: Snapshot, folder) -> Snapshot:
    path = folder / "kept.safetensors"
    snapshot.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    return Snapshot.load(path)


@pytest.mark.parametrize("rate", [24_000, 44_100])
@pytest.mark.parametrize("options", [{}, {"phrases": ["paris"]}], ids=["", "phrases"])
def test_a_transcription_continues_as_if_nothing_had_been(tmp_path, rate, options):
    stt = listener()
    sound = noise(6.0)
    blocks = [sound[i : i + BLOCK] for i in range(0, len(sound), BLOCK)]
    half = len(blocks) // 2
    first = stt.session(sample_rate=rate, **options)
    for block in blocks[:half]:
        first.feed(block)
    kept = through_a_file(first.snapshot(), tmp_path)
    wanted = [first.feed(block) for block in blocks[half:]] + [first.flush()]
    other = stt.session(sample_rate=rate, **options)
    other.feed(noise(1.0, seed=7))
    other.restore(kept)
    found = [other.feed(block) for block in blocks[half:]] + [other.flush()]
    assert found == wanted
    assert any(wanted) and other.time_s == first.time_s


@pytest.mark.parametrize("temp", [0.0, 0.7])
@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_a_speech_continues_as_if_nothing_had_been(tmp_path, pieces, temp):
    tts = speaker(temp=temp)

    def rest(session: SpeechSession) -> np.ndarray:
        frames = [f for text in PIECES[pieces:] for f in session.feed(text)]
        return np.concatenate([*frames, *session.finish()])

    first = tts.session(VOICES["a"], seed=5)
    for text in PIECES[:pieces]:
        list(first.feed(text))
    kept = through_a_file(first.snapshot(), tmp_path)
    wanted = rest(first)
    other = tts.session(VOICES["a"], seed=9)
    list(other.feed("something else"))
    other.restore(kept)
    np.testing.assert_array_equal(rest(other), wanted)
    assert other.words == first.words and len(wanted) > 1920


def test_a_speech_that_continues_a_recording_is_continued(tmp_path):
    tts = speaker(TTS / "prefix")
    first = tts.session(TTS / "voice.wav", seed=5)
    list(first.feed("hello there "))
    kept = through_a_file(first.snapshot(), tmp_path)
    wanted = np.concatenate([*first.feed("how are you"), *first.finish()])
    other = tts.session(TTS / "voice.wav", seed=5)
    other.restore(kept)
    found = np.concatenate([*other.feed("how are you"), *other.finish()])
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("sampler", [Sampler(temp=0), Sampler(0.8, top_k=20)])
def test_a_text_continues_as_if_nothing_had_been(tmp_path, sampler):
    model = moshi_mlx.load_text(writing(tmp_path))
    first = model.session("hello there", sampler=sampler, seed=3)
    list(first.write(5))
    kept = through_a_file(first.snapshot(), tmp_path)
    wanted = list(first.write(8))
    other = model.session("something quite different", sampler=sampler, seed=4)
    list(other.write(2))
    other.restore(kept)
    assert list(other.write(8)) == wanted
    assert other.tokens == first.tokens == 13
    other.state = kept.state
    assert list(other.write(8)) == wanted


def test_a_snapshot_of_another_kind_or_rate_is_refused_in_a_sentence(tmp_path):
    stt, text = listener(), moshi_mlx.load_text(writing(tmp_path))
    kept = stt.session().snapshot()
    with pytest.raises(ConfigError, match="of a transcription and cannot continue a t"):
        text.session("hello").restore(kept)
    with pytest.raises(ConfigError, match=r"of another sample rate .*24000, here 8000"):
        stt.session(sample_rate=8000).restore(kept)


def test_a_snapshot_of_another_model_is_refused(tmp_path):
    (tmp_path / "one").mkdir()
    kept = moshi_mlx.load_stt(listening(tmp_path / "one")).session().snapshot()
    with pytest.raises(ConfigError, match=r"of (another codec|other weights)"):
        listener().session().restore(kept)
