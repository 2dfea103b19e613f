"""Clients of every protocol that take a place, and hang up in the middle of it.

``scripts/hangups`` prints how soon each place is free, and what 500 of each kind leave
of memory and handles; ``test_hangups.py`` tries a few.
"""

import argparse
import contextlib
import gc
import json
import os
import socket
import struct
import threading
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgpack
import numpy as np

import moshi_mlx
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.serve.app import make_app
from moshi_mlx.serve.gate.limits import Limits
from moshi_mlx.serve.gate.security import Policy
from moshi_mlx.serve.protocols.wyoming.server import wyoming_server
from moshi_mlx.serve.server import make_server
from moshi_mlx.serve.service import Service, describe, load_batch
from moshi_mlx.utils.trace import percentile
from tests.listening import noise
from tests.serve.attacks import BINARY, TEXT, frame
from tests.serve.small import VOICE, small

PATIENCE_S = 60.0
WORDS = "hello there how are you today in paris " * 50
SOUND = (noise(1.0) * 32767).clip(-32768, 32767).astype("<i2")
SHAPE = {"rate": 24000, "width": 2, "channels": 1}
_CHUNK = {"type": "audio-chunk", "data": SHAPE, "payload_length": SOUND.nbytes}
CHUNK = json.dumps(_CHUNK).encode() + b"\n"
BACKLOG_S = 70  # of sound at once: more than may wait for the model
SPOKEN = {"input": WORDS, "voice": VOICE, "model": "m", "response_format": "pcm"}


@dataclass
class Target:
    """A server in this process, and its ports."""

    service: Service
    port: int
    wyoming: int

    @property
    def taken(self) -> int:
        """Places in use, of all kinds."""
        speech, batch = self.service.speech, self.service.batch
        models = [model.value for model in (speech.stt, speech.tts) if model]
        rows = [model.taken for model in models if model is not None]
        talks = 0 if batch is None else batch.rows - batch.free
        return sum(rows) + talks + self.service.lobby.taken + speech._busy


@contextmanager
def target(rows: int = 1) -> Iterator[Target]:
    """A server with the demo's Moshi, and small models that listen and speak."""
    thread, speech = model_thread(), small(rows)
    speech.load()
    batch = load_batch(thread, lambda: moshi_mlx.load("demo"), rows)
    limits = Limits(bytes_per_s=1e9, burst_bytes=1e9, burst_s=1e9, restarts_per_s=1e9)
    service = Service(*(thread, batch, describe(batch), rows, limits), speech=speech)
    ports: list[int] = []

    @asynccontextmanager
    async def beside() -> AsyncIterator[None]:
        async with wyoming_server(speech) as port:
            ports.append(port)
            yield

    app = make_app(service, Policy(), None)
    server = make_server(app, service, "localhost", 0, None, ports.append, beside)
    running = threading.Thread(target=server.run)
    running.start()
    while len(ports) < 2 and running.is_alive():
        time.sleep(0.01)
    try:
        yield Target(service, ports[1], ports[0])
    finally:
        server.should_exit = True
        running.join(30)
        batch.close()
        assert not running.is_alive(), "the server does not end"


class Caller:
    """A connection that knows nothing but bytes."""

    def __init__(self, port: int):
        self._raw = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._got = b""

    def send(self, data: bytes) -> None:
        self._raw.sendall(data)

    def until(self, mark: bytes) -> None:
        """Read up to some bytes."""
        while mark not in self._got:
            data = self._raw.recv(1 << 16)
            assert data, f"closed before {mark!r}: {self._got[-300:]!r}"
            self._got += data
        self._got = self._got.partition(mark)[2]

    def upgrade(self, path: str) -> None:
        """Become a WebSocket."""
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        head += "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        head += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        self.send(head.encode())
        self.until(b"101")

    def say(self, **fields: object) -> None:
        """Send a JSON message on a WebSocket."""
        self.send(text(**fields))

    def pack(self, **fields: object) -> None:
        """Send a MessagePack message on a WebSocket."""
        self.send(packed(**fields))

    def post(self, path: str, kind: str, body: bytes) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        self.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self.until(b"200 OK")

    def hang_up(self, rudely: bool) -> None:
        """Go without a goodbye; rudely, with a reset."""
        if rudely:
            option = struct.pack("ii", 1, 0)
            self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        self._raw.close()


def text(**fields: object) -> bytes:
    """A WebSocket's frame with JSON."""
    return frame(TEXT, json.dumps(fields).encode())


def packed(**fields: object) -> bytes:
    """A WebSocket's frame with MessagePack."""
    return frame(BINARY, msgpack.packb(fields) or b"")


def moshi(caller: Caller) -> None:
    caller.upgrade("/api/chat?format=pcm&queue=1")
    caller.until(b"\x82\x09\x00")  # the handshake
    caller.send(frame(BINARY, b"\x01" + bytes(4 * 1920 * 3)))


def moshi_server_asr(caller: Caller) -> None:
    caller.upgrade("/api/asr-streaming")
    caller.until(b"Ready")
    caller.pack(type="Audio", pcm=(SOUND / 32768).tolist())
    caller.until(b"Step")


def moshi_server_tts(caller: Caller) -> None:
    caller.upgrade(f"/api/tts_streaming?format=PcmMessagePack&voice={VOICE}")
    caller.until(b"Ready")
    caller.pack(type="Text", text=WORDS)
    caller.until(b"Audio")


def moshi_server_post(caller: Caller) -> None:
    body = json.dumps({"text": WORDS, "voice": VOICE}).encode()
    caller.post("/api/tts_streaming", "application/json", body)


def gradium_asr(caller: Caller) -> None:
    caller.upgrade("/api/speech/asr")
    caller.say(type="setup", model_name="default", input_format="pcm")
    caller.until(b'"ready"')
    caller.say(type="audio", audio=b64encode(SOUND.tobytes()).decode())
    caller.until(b'"step"')


def gradium_tts(caller: Caller) -> None:
    caller.upgrade("/api/speech/tts")
    caller.say(type="setup", voice_id=VOICE, output_format="pcm")
    caller.until(b'"ready"')
    caller.say(type="text", text=WORDS)
    caller.until(b'"audio"')


def realtime_transcription(caller: Caller) -> None:
    caller.upgrade("/v1/realtime?intent=transcription")
    _append(caller)
    caller.say(type="input_audio_buffer.commit")
    caller.until(b"input_audio_buffer.committed")


def realtime_talk(caller: Caller) -> None:
    caller.upgrade("/v1/realtime")
    _append(caller)
    caller.say(type="response.create")
    caller.until(b"response.created")


def _append(caller: Caller) -> None:
    caller.send(_appended())


def _appended() -> bytes:
    audio = b64encode(SOUND.tobytes()).decode()
    return text(type="input_audio_buffer.append", audio=audio)


def realtime_backlog(caller: Caller) -> None:
    caller.upgrade("/v1/realtime?intent=transcription")
    caller.send(_appended() * BACKLOG_S)
    caller.say(type="input_audio_buffer.commit")
    caller.until(b".delta")


def realtime_talk_backlog(caller: Caller) -> None:
    caller.upgrade("/v1/realtime")
    caller.send(_appended() * BACKLOG_S)
    caller.until(b"session.created")
    caller.until(b'"type": "')


def moshi_server_asr_backlog(caller: Caller) -> None:
    caller.upgrade("/api/asr-streaming")
    caller.until(b"Ready")
    caller.send(packed(type="Audio", pcm=(SOUND / 32768).tolist()) * BACKLOG_S)
    caller.until(b"Step")


def gradium_asr_backlog(caller: Caller) -> None:
    caller.upgrade("/api/speech/asr")
    caller.say(type="setup", model_name="default", input_format="pcm")
    caller.until(b'"ready"')
    sound = b64encode(SOUND.tobytes()).decode()
    caller.send(text(type="audio", audio=sound) * BACKLOG_S)
    caller.until(b'"step"')


def openai_speech(caller: Caller) -> None:
    body = json.dumps(SPOKEN).encode()
    caller.post("/v1/audio/speech", "application/json", body)


def openai_transcription(caller: Caller) -> None:
    from moshi_mlx.audio.encode import encoded

    sound = encoded(np.tile(SOUND / 32768, 20).astype(np.float32), "wav")
    parts = [
        b'Content-Disposition: form-data; name="stream"\r\n\r\ntrue',
        b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + sound,
    ]
    body = b"".join(b"--e\r\n%b\r\n" % part for part in parts) + b"--e--\r\n"
    path = "/v1/audio/transcriptions"
    caller.post(path, "multipart/form-data; boundary=e", body)


def wyoming_tts(caller: Caller) -> None:
    for kind, data in (("start", {}), ("chunk", {"text": WORDS})):
        event = {"type": f"synthesize-{kind}", "data": data}
        caller.send(json.dumps(event).encode() + b"\n")
    caller.until(b"audio-chunk")


def wyoming_asr(caller: Caller) -> None:
    start = {"type": "audio-start", "data": SHAPE}
    caller.send(json.dumps(start).encode() + b"\n" + CHUNK + SOUND.tobytes())
    caller.until(b"transcript-start")


def wyoming_asr_backlog(caller: Caller) -> None:
    wyoming_asr(caller)
    caller.send((CHUNK + SOUND.tobytes()) * BACKLOG_S)


WYOMING = (wyoming_asr, wyoming_tts, wyoming_asr_backlog)
KINDS: dict[str, Callable[[Caller], None]] = {
    kind.__name__: kind
    for kind in (
        *(moshi, moshi_server_asr, moshi_server_tts, moshi_server_post),
        *(gradium_asr, gradium_tts, realtime_transcription, realtime_talk),
        *(realtime_backlog, realtime_talk_backlog, moshi_server_asr_backlog),
        *(gradium_asr_backlog, openai_speech, openai_transcription, *WYOMING),
    )
}


def hang_up(there: Target, kind: str, rudely: bool) -> float:
    """Take a place and hang up; returns the seconds until it is free."""
    call = KINDS[kind]
    caller = Caller(there.wyoming if call in WYOMING else there.port)
    try:
        call(caller)
        assert there.taken, f"{kind} takes no place"
    finally:
        caller.hang_up(rudely)
    return until_free(there, kind)


def until_free(there: Target, kind: str) -> float:
    began = time.perf_counter()
    while there.taken:
        waited = time.perf_counter() - began
        assert waited < PATIENCE_S, f"{kind}: {there.taken} places are not given back"
        time.sleep(0.002)
    return time.perf_counter() - began


def held() -> tuple[float, int]:
    """MiB and handles of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    size = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return size, len(os.listdir("/proc/self/fd"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}")
    parser.add_argument("-n", "--times", type=int, default=500)
    given = parser.parse_args()
    with target() as there, contextlib.suppress(KeyboardInterrupt):
        for kind in given.kinds or KINDS:
            for n in range(10):  # what is made once is made now
                hang_up(there, kind, rudely=n % 2 > 0)
            before = held()
            times = [hang_up(there, kind, n % 2 > 0) for n in range(given.times)]
            time.sleep(0.5)
            after = held()
            p50, p95 = (1000 * percentile(times, at) for at in (50, 95))
            print(
                f"{kind}: {given.times} hang-ups, free after {p50:.0f} ms, p95 "
                f"{p95:.0f}, at most {1000 * max(times):.0f}; {before[0]:.0f} -> "
                f"{after[0]:.0f} MiB, {before[1]} -> {after[1]} handles",
                flush=True,
            )


if __name__ == "__main__":
    main()
