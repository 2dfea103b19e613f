"""Which models a server is told to serve, and when they are loaded."""

import json
import shutil

import pytest

from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.serve.languages import languages_of
from moshi_mlx.serve.models import family, speech_service
from moshi_mlx.serve.places import FrameTime
from tests.family import listening
from tests.speech import TTS


@pytest.mark.parametrize(
    "name, known",
    [
        ("kyutai/stt-1b-en_fr-candle", ("en", "fr")),
        ("kyutai/stt-2.6b-en-mlx", ("en",)),
        ("kyutai/tts-0.75b-en-public", ("en",)),
        ("/models/open-fr/tts_de", ("de",)),
        ("demo-stt", ("en",)),
        ("/some/folder", ("en", "fr")),
    ],
)
def test_a_models_languages_are_those_of_its_name(name, known):
    assert languages_of(name) == known


TIME = FrameTime(("transcription", "speech"))


def test_models_are_found_at_once_and_loaded_on_first_need(tmp_path):
    folder = listening(tmp_path / "stt")
    speech = speech_service(2, TIME, stt=str(folder), tts=str(TTS), voice_repo=str(TTS))
    assert speech.stt is not None and speech.tts is not None
    assert (speech.stt.name, speech.tts.name) == (str(folder), str(TTS))
    assert speech.stt.value is speech.tts.value is None
    speech.load()
    assert speech.stt.value is not None and 1 <= speech.stt.value.rows <= 2
    assert speech.tts.value is not None and speech.tts.value.steps == 0


def test_a_model_that_does_something_else_is_refused_at_the_start(tmp_path):
    with pytest.raises(ConfigError, match="does not transcribe"):
        speech_service(2, TIME, stt=str(TTS))
    with pytest.raises(ConfigError, match="does not translate"):
        speech_service(2, TIME, translate=str(TTS))
    with pytest.raises(CheckpointError, match="/nowhere"):
        speech_service(2, TIME, stt="/nowhere")


def test_a_familys_ear_and_mouth_come_with_its_moshi(tmp_path):
    assert family(None, "stt") is None
    assert family(str(TTS), "stt") is None
    shutil.copy(TTS / "config.json", tmp_path / "config.json")
    (tmp_path / "stt.json").write_text(json.dumps({}))
    assert family(str(tmp_path), "stt") == str(tmp_path)
    assert family(str(tmp_path), "tts") is None
