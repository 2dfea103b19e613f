"""Unmute, unchanged, with our server for its ears and voice.

Run at 84aa28d of kyutai-labs/unmute. Where its checkout is, scripts/test_clients says.
"""

import asyncio
import base64
import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sphn
from websockets.asyncio.client import connect

from moshi_mlx.audio.encode import encoded
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.serve.speech import SpeechService
from tests.listening import noise
from tests.serve.clients import environments
from tests.serve.clients import unmute_backend as unmute
from tests.serve.loud_ears import loud_ears
from tests.serve.small import VOICE, small

# Unmute gives up after half a second without an answer, which a busy machine may miss.
pytestmark = pytest.mark.flaky(reruns=3)
FRAME = 1920
DELTA = "conversation.item.input_audio_transcription.delta"
LONG = "hello there how are you today " * 12


@pytest.fixture(scope="module")
def checkout() -> Path:
    return environments.source("main_websocket.py").parents[1]


@pytest.fixture(scope="module")
def python() -> Path:
    return environments.python("unmute")


def ears_and_voice(prefix: bool = False) -> SpeechService:
    """With one place each: Unmute must free it to get it again."""
    speech = SpeechService(model_thread(), loud_ears(1), small(1, prefix).tts)
    speech.load()  # Unmute waits for half a second
    return speech


@environments.program("Unmute's classes 84aa28d")
@pytest.mark.parametrize("cloned", [False, True])
def test_unmutes_classes_read_and_hear_what_they_need(
    serve, checkout, python, tmp_path, cloned
):
    server = serve(speech=ears_and_voice(prefix=cloned))
    sound = tmp_path / "sound.npy"
    np.save(sound, noise(1.6))
    given = [str(sound)]
    if cloned:
        recording = tmp_path / "a.wav"
        recording.write_bytes(encoded(noise(3.0), "wav"))
        given.append(str(recording))
    script = Path(__file__).parent / "unmute_classes.py"
    done = subprocess.run(
        [str(python), str(script), *given],
        env=unmute.settings(server.port, 1, tmp_path, checkout),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    heard, said = told["heard"], told["said"]
    assert heard["words"] == [f"word{n}" for n in range(1, 6)]
    assert heard["marker"] == 7 and heard["pause"] > 0.9
    assert 1.6 < heard["time_s"] < 5
    assert said["words"] == ["hello", "there", "how", "are", "you"]
    assert said["samples"] > FRAME and said["samples"] % FRAME == 0


class Browser:
    """A client of Unmute's back end: what its front end sends and reads."""

    def __init__(self, socket: Any):
        self._socket = socket
        self._opus = sphn.OpusStreamWriter(24000)
        self.told: list[dict[str, Any]] = []
        self.spoken = asyncio.Event()  # while the user speaks

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.told]

    def text(self, kind: str) -> list[str]:
        return [event["delta"] for event in self.told if event["type"] == kind]

    async def send(self, kind: str, **fields: object) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    async def talk(self) -> None:
        """Sound in real time: noise while ``spoken`` is set, else silence."""
        number = 0
        while True:
            number += 1
            pcm = np.zeros(FRAME, np.float32)
            if self.spoken.is_set():
                pcm = noise(0.08, number)
            if data := self._opus.append_pcm(pcm):
                audio = base64.b64encode(data).decode()
                await self.send("input_audio_buffer.append", audio=audio)
            await asyncio.sleep(0.08)

    async def read(self) -> None:
        async for message in self._socket:
            self.told.append(json.loads(message))

    async def until(self, kind: str, times: int = 1) -> None:
        for _ in range(600):
            if self.kinds().count(kind) >= times:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"no {kind} in {self.kinds()}")


async def conversation(port: int, interrupt: bool) -> Browser:
    """A greeting, something said after or in the middle of it, and the answer."""
    url = f"ws://127.0.0.1:{port}/v1/realtime"
    async with connect(url, subprotocols=["realtime"], max_size=None) as socket:  # type: ignore[list-item]
        browser = Browser(socket)
        instructions = {"type": "constant", "text": "Be brief."}
        session = {"instructions": instructions, "allow_recording": False}
        await browser.send("session.update", session={**session, "voice": VOICE})
        jobs = [asyncio.ensure_future(job) for job in (browser.read(), browser.talk())]
        try:
            await browser.until("response.audio.delta")
            if not interrupt:
                await browser.until("response.audio.done")
                await asyncio.sleep(0.5)
            browser.spoken.set()
            await asyncio.sleep(2)
            browser.spoken.clear()
            await browser.until("response.created", 2)
            await browser.until("response.audio.done", 1 if interrupt else 2)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        return browser


@environments.program("Unmute's back end 84aa28d")
@pytest.mark.parametrize("interrupt", [False, True])
def test_unmutes_back_end_talks_through_us_and_can_be_interrupted(
    serve, checkout, python, tmp_path, interrupt
):
    server = serve(speech=ears_and_voice())
    greeting = LONG if interrupt else "hello there"
    with unmute.language_model([greeting, "it is paris"]) as llm:
        environment = unmute.settings(server.port, llm, tmp_path, checkout)
        with unmute.backend(python, environment, tmp_path) as port:
            health = json.load(
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/health")
            )
            browser = asyncio.run(conversation(port, interrupt))
    log = (tmp_path / "backend.log").read_text()
    kinds = browser.kinds()
    assert all(health.values()), health
    assert "error" not in kinds, log[-3000:]
    assert kinds.count("response.created") == 2, log[-3000:]
    assert kinds.count("input_audio_buffer.speech_started") == 1
    assert kinds.count("input_audio_buffer.speech_stopped") == 1
    assert kinds.count("unmute.interrupted_by_vad") == int(interrupt)
    assert len(browser.text(DELTA)) >= 4
    said = "".join(f" {word}" for word in browser.text("response.text.delta")).split()
    assert said[-3:] == ["it", "is", "paris"]
    assert ("hello" in said) and len(said) < 60
    assert "1 is not ready" not in log and "Traceback" not in log, log[-3000:]
