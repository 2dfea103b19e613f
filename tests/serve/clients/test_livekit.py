"""LiveKit's plugins, without a room."""

import pytest

from tests.serve.clients.conftest import python_program
from tests.serve.clients.environments import program
from tests.serve.clients.listening import ANSWER, TEXT, has_answer, is_question, says

pytestmark = pytest.mark.flaky(reruns=2)  # the demo mumbles now and then


@program("livekit-plugins-openai")
def test_openais_plugin_speaks_and_transcribes(server, folder):
    told = python_program("livekit", "livekit_openai", server.url, folder)
    assert is_question(told["file"]) and is_question(told["live"])
    for form in ("mp3", "pcm"):
        assert says(folder / f"said-{form}.wav") == TEXT


@program("livekit-plugins-openai, RealtimeModel")
def test_the_realtime_model_talks_with_moshi(server, folder):
    told = python_program("livekit", "livekit_realtime", server.url, folder)
    assert told["errors"] == []
    assert any(is_question(text) for text in told["user"])
    assert has_answer(told["answers"])
    assert says(folder / "said.wav") == ANSWER


@program("livekit-plugins-gradium")
def test_gradiums_plugin_speaks_and_transcribes(server, folder):
    told = python_program("livekit", "livekit_gradium", server.url, folder)
    assert is_question(told["live"])
    assert says(folder / "said.wav") == TEXT


@program("livekit-plugins-kyutai-lasuite")
def test_la_suites_plugin_transcribes(server, folder):
    told = python_program("livekit", "lasuite_stt", server.url, folder)
    assert is_question(told["live"])
