"""Voices by name: found, or refused with the way out."""

import shutil
import threading
from pathlib import Path

import mlx.core as mx
import pytest

from moshi_mlx.engines.load import load_tts
from moshi_mlx.engines.tts.script_file import Failure, Script
from moshi_mlx.engines.tts.voices import (
    find_voice,
    nearest,
    voice_names,
    voice_suffix,
)
from moshi_mlx.errors import CheckpointError
from tests.speech import TTS, VOICES, speaker

SUFFIX = ".1e68beda@240.safetensors"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A hub cache that holds two voices of kyutai/tts-voices, and no connection."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repo = tmp_path / "models--kyutai--tts-voices"
    folder = repo / "snapshots" / ("0" * 40)
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    for name in ("expresso/ex03_happy.wav", "vctk/p225.wav"):
        path = folder / f"{name}{SUFFIX}"
        path.parent.mkdir(parents=True)
        shutil.copy(VOICES["a"], path)
    (folder / "vctk/p225.wav").write_bytes(b"RIFF")
    return folder


def test_the_suffix_names_the_model():
    assert voice_suffix({"model_id": {"sig": "1e68beda", "epoch": 240}}) == SUFFIX
    assert voice_suffix({}) == ""


@pytest.mark.parametrize("name", ["voice_a.wav", f"voice_a.wav{SUFFIX}"])
def test_a_local_file_comes_first(name: str, monkeypatch):
    monkeypatch.chdir(TTS)
    assert find_voice(name, "kyutai/tts-voices", SUFFIX) == Path(f"voice_a.wav{SUFFIX}")


def test_a_name_is_looked_up_in_the_repository(hub):
    path = find_voice("vctk/p225.wav", "kyutai/tts-voices", SUFFIX)
    assert path.name == f"p225.wav{SUFFIX}" and path.is_file()


def test_names_are_those_of_the_model(hub):
    names = voice_names("kyutai/tts-voices", SUFFIX)
    assert names == ["expresso/ex03_happy.wav", "vctk/p225.wav"]
    assert voice_names("kyutai/tts-voices", "") == ["vctk/p225.wav"]
    assert voice_names(str(TTS), SUFFIX) == ["voice_a.wav", "voice_b.wav"]


def test_without_hub_and_cache_it_says_so(hub):
    with pytest.raises(CheckpointError, match="not on this machine"):
        voice_names("kyutai/other-voices", SUFFIX)


def test_nearest_names_come_by_likeness_and_by_content():
    names = ["expresso/ex03_happy.wav", "expresso/ex01_sad.wav", "vctk/p225.wav"]
    assert nearest("ex03_hapy.wav", names)[0] == "expresso/ex03_happy.wav"
    assert nearest("sad", names) == ["expresso/ex01_sad.wav"]
    assert nearest("qqqq", names) == []


def test_a_voice_of_another_model_is_refused(tmp_path):
    other = "voice_a.wav.deadbeef@7.safetensors"
    with pytest.raises(CheckpointError, match="another model"):
        find_voice(other, str(TTS), SUFFIX)
    path = tmp_path / "wide.safetensors"
    mx.save_safetensors(str(path), {"speaker_wavs": mx.zeros((1, 17, 3))})
    with pytest.raises(CheckpointError, match=r"17 numbers .* takes 16"):
        speaker().make_condition_attributes([path])


def test_a_recording_is_no_voice_of_a_model_with_embeddings():
    with pytest.raises(CheckpointError, match="is a recording"):
        find_voice(str(TTS / "voice.wav"), str(TTS), SUFFIX)
    with pytest.raises(CheckpointError, match="not a voice embedding"):
        speaker().make_condition_attributes([TTS / "voice.wav"])


def test_a_foreign_or_damaged_file_is_refused(tmp_path):
    damaged, foreign = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    damaged.write_bytes(b"no tensors")
    mx.save_safetensors(str(foreign), {"x": mx.zeros((2,))})
    with pytest.raises(CheckpointError, match="cannot be read"):
        speaker().make_condition_attributes([damaged])
    with pytest.raises(CheckpointError, match="no 'speaker_wavs'"):
        speaker().make_condition_attributes([foreign])


def test_all_places_of_speakers_are_filled_in_order():
    tts = speaker()
    one = tts.make_condition_attributes([VOICES["b"]]).tensor["speaker_wavs"]
    two = tts.make_condition_attributes(list(VOICES.values())).tensor["speaker_wavs"]
    length = two.tensor.shape[1] // 2
    assert one.tensor.shape == two.tensor.shape
    assert mx.array_equal(one.tensor[:, :length], two.tensor[:, length:])
    assert one.mask.sum().item() == length and two.mask.sum().item() == 2 * length
    tts.max_speakers = 5
    wide = tts.make_condition_attributes([VOICES["b"]]).tensor["speaker_wavs"]
    assert wide.tensor.shape[1] == 5 * length


def test_voices_of_scripts_are_looked_up_on_the_callers_thread(monkeypatch, tmp_path):
    tts, threads = load_tts(TTS, voice_repo=str(TTS)), []

    def looked_up(name: str) -> Path:
        threads.append(threading.current_thread())
        if name == "nobody":
            raise CheckpointError("there is no voice 'nobody'")
        return VOICES["a"]

    monkeypatch.setattr(tts, "get_voice_path", looked_up)
    scripts = [
        Script(1, ["hello there"], ["a"], "one"),
        Script(2, ["hello"], ["nobody"], "two"),
        Script(3, ["you"], ["a"], "three"),
    ]
    results = tts.say_scripts(scripts, tmp_path, seed=1)
    tts.close()
    failures = [result for result in results if isinstance(result, Failure)]
    assert [f.line for f in failures] == [2] and "nobody" in failures[0].reason
    assert threads == 2 * [threading.main_thread()]  # once a voice
