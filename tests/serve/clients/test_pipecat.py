"""pipecat's services, each in a pipeline of its own."""

import pytest

from tests.serve.clients.conftest import python_program
from tests.serve.clients.environments import program
from tests.serve.clients.listening import ANSWER, TEXT, has_answer, is_question, says

pytestmark = pytest.mark.flaky(reruns=2)  # the demo mumbles now and then


@pytest.fixture
def run(server, folder):
    def run(name: str) -> dict:
        told = python_program("pipecat", "pipecat_services", server.url, folder, name)
        assert told["errors"] == []
        return told

    return run


@program("pipecat-ai")
@pytest.mark.parametrize("name", ["openai-tts", "gradium-tts"])
def test_a_service_speaks(run, folder, name):
    run(name)
    assert says(folder / "said.wav") == TEXT


@program("pipecat-ai")
@pytest.mark.parametrize("name", ["openai-stt", "openai-realtime-stt", "gradium-stt"])
def test_a_service_transcribes(run, name):
    assert is_question(" ".join(run(name)["read"]))


@program("pipecat-ai, OpenAIRealtimeLLMService")
def test_a_service_talks_with_moshi(run, folder):
    told = run("openai-realtime-llm")
    assert any(is_question(text) for text in told["read"])
    assert has_answer(["".join(told["said"]), " ".join(told["said"])])
    assert says(folder / "said.wav") == ANSWER
