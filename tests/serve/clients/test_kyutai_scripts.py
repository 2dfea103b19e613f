"""Kyutai's scripts for its Rust server, unchanged.

They come from kyutai-labs/delayed-streams-modeling (run at f6074cb). Where its checkout
is, scripts/test_clients says.
"""

import re
import signal

import pytest

from moshi_mlx.audio.files import read
from tests.serve.clients.conftest import output_of
from tests.serve.clients.environments import program, python, source
from tests.serve.clients.listening import QUESTION, TEXT, is_question, says
from tests.sound_devices.pulse import Pulse, wait_for

pytestmark = pytest.mark.flaky(reruns=2)  # the demo mumbles now and then


def script(name: str) -> list:
    return [python("kyutai"), source(name)]


@program("stt_from_file_rust_server.py f6074cb")
def test_a_file_is_transcribed_with_the_times_of_its_words(server, folder):
    command = script("stt_from_file_rust_server.py")
    command += [folder / "sound.wav", "--rtf", 1000, "--url", server.ws]
    timed = re.findall(r"\d - +\d+\.\d\d  (.+)", output_of(*command))
    assert is_question(" ".join(timed))


@program("tts_rust_server.py f6074cb")
def test_a_text_is_spoken_into_a_file(server, folder):
    command = script("tts_rust_server.py")
    output_of(*command, folder / "text.txt", folder / "out.wav", "--url", server.ws)
    assert says(folder / "out.wav") == TEXT


@pytest.fixture
def pulse():
    pulse = Pulse()
    yield pulse
    pulse.close()


@program("stt_from_mic_rust_server.py f6074cb")
def test_a_microphone_is_transcribed(server, folder, pulse):
    interpreter, path = script("stt_from_mic_rust_server.py")
    command = [interpreter, "-u", path, "--url", server.ws]  # -u: it prints at once
    printed = folder / "printed"
    with printed.open("w") as file:
        process = pulse.run(*map(str, command), stdout=file.fileno())
    wait_for(lambda: "Starting the transcription" in printed.read_text(), 60.0)
    pulse.say(read(QUESTION)[0])
    try:
        wait_for(lambda: is_question(_heard(printed.read_text())), 60.0)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def _heard(printed: str) -> str:
    heard = printed.rpartition("Starting the transcription")[2]
    return heard.replace("Interrupted by user", "")
