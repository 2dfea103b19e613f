"""OpenAI's clients for JavaScript: over plain HTTP, over TLS, and as agents."""

import pytest

from moshi_mlx.audio.files import read
from moshi_mlx.audio.framing import SAMPLE_RATE
from tests.serve.clients.conftest import node_program
from tests.serve.clients.environments import program
from tests.serve.clients.listening import ANSWER, TEXT, has_answer, is_question, says

pytestmark = pytest.mark.flaky(reruns=2)  # the demo mumbles now and then


def check_files(told, folder) -> None:
    assert told["models"]
    files = [folder / f"said.{form}" for form in ("wav", "mp3", "opus", "flac")]
    assert all(len(read(file)[0]) > 1.5 * SAMPLE_RATE for file in files)
    assert TEXT in map(says, files)  # each is spoken anew, and the demo mumbles
    assert is_question(told["file"]) and is_question(told["streamed"])
    assert " ".join(told["words"]) == told["file"]


@program("openai (npm)")
def test_files_are_spoken_and_transcribed(server, folder):
    check_files(node_program("openai_npm", server.url, folder), folder)


@program("openai (npm)")
def test_all_of_it_works_over_tls(tls_server, folder):
    trusted = {"NODE_EXTRA_CA_CERTS": str(tls_server.certificate)}
    told = node_program("openai_npm", tls_server.url, folder, env=trusted)
    check_files(told, folder)
    assert is_question(told["realtime"])
    assert has_answer(told["answers"])
    assert says(folder / "answer.pcm") == ANSWER


@program("@openai/agents-realtime")
def test_an_agent_talks_with_moshi(server, folder):
    told = node_program("agents_realtime", server.url, folder)
    assert told["errors"] == []
    user, assistant = told["history"][:2]
    assert (user["role"], assistant["role"]) == ("user", "assistant")
    assert is_question(user["said"])
    assert has_answer([assistant["said"], *told["ends"]])
    assert says(folder / "answer.pcm") == ANSWER
