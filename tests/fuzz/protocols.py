"""Mutated messages of the server's protocols: read, or refused in words."""

import asyncio
import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgpack

from moshi_mlx.errors import ProtocolError
from moshi_mlx.serve.gate.refusal import Refused
from moshi_mlx.serve.opus import OpusReader
from moshi_mlx.serve.protocols.gradium import asr as gradium_asr
from moshi_mlx.serve.protocols.gradium import messages as gradium
from moshi_mlx.serve.protocols.gradium.tts import Sending
from moshi_mlx.serve.protocols.moshi_server import messages as moshi_server
from moshi_mlx.serve.protocols.openai import asking, forms, speech, transcriptions
from moshi_mlx.serve.protocols.realtime import messages as realtime
from moshi_mlx.serve.protocols.realtime.session import RealtimeSession
from moshi_mlx.serve.protocols.wyoming.requests import Transcription, plain_text
from moshi_mlx.serve.protocols.wyoming.wire import Bounds, read_event
from moshi_mlx.serve.service import Service
from moshi_mlx.serve.speech import Ears, SpeechService
from tests.fuzz.checkpoints import HOSTILE, mutated
from tests.fuzz.harness import Try

SOUND = base64.b64encode(bytes(range(200)) * 4).decode()
PCM: list[Any] = [0.5, -0.25, 0.0, 1.0]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Some of the bytes changed, left out or doubled; most often none."""
    new = bytearray(data)
    for _ in range(rng.choice((0, 0, 0, 1, 3, 20))):
        at = rng.randrange(len(new) + 1)
        change = rng.randrange(3)
        if change == 0:
            new[at : at + 1] = rng.randbytes(1)
        elif change == 1:
            del new[at : at + rng.choice((1, 5, 50))]
        else:
            new[at:at] = new[at : at + rng.choice((1, 5, 50))]
    return bytes(new)


def text_of(fields: dict[str, Any], rng: random.Random) -> bytes:
    """A message as JSON, more or less."""
    return damaged(mutated(fields, rng).encode("utf-8", "surrogatepass"), rng)


def try_moshi_server(rng: random.Random, _folder: Path) -> None:
    """A client's message of moshi-server, and the fields that its kind has."""
    fields: dict[str, Any] = rng.choice(
        [
            {"type": "Audio", "pcm": PCM},
            {"type": "OggOpus", "data": list(rng.randbytes(60))},
            {"type": "Marker", "id": 3},
            {"type": "Text", "text": "hello"},
            {"type": "Voice", "embeddings": PCM, "shape": [1, 2, 2]},
        ]
    )
    fields = dict(fields)
    if rng.random() < 0.6:
        key = rng.choice(list(fields))
        fields[key] = rng.choice([v for v in HOSTILE if _packs(v)])
    kind, got = moshi_server.read_message(damaged(msgpack.packb(fields) or b"", rng))
    readers: dict[str, Callable[[], object]] = {
        "Audio": lambda: moshi_server.samples(got.get("pcm")),
        "OggOpus": lambda: OpusReader().push(moshi_server.octets(got.get("data"))),
        "Marker": lambda: moshi_server.integer(got.get("id")),
        "Text": lambda: moshi_server.text_of(got.get("text")),
        "Voice": lambda: moshi_server.voice_numbers(got),
    }
    if kind in readers:
        readers[kind]()


def _packs(value: object) -> bool:
    try:
        msgpack.packb(value)
    except (OverflowError, ValueError, TypeError):
        return False
    return True


def try_gradium(rng: random.Random, _folder: Path) -> None:
    """A message of Gradium's, and what a request would read of it."""
    setup = {"type": "setup", "model_name": "a", "client_req_id": "r"}
    fields: dict[str, Any] = rng.choice(
        [
            {**setup, "input_format": rng.choice(["pcm", "pcm_8000", "wav", "opus"])},
            {**setup, "output_format": "pcm_16000", "json_config": '{"temp": 1}'},
            {**setup, "voice_id": "v", "json_config": {"temp": 1}},
            {"type": "audio", "audio": SOUND},
            {"type": "text", "text": "hello"},
            {"type": "flush", "flush_id": 7},
        ]
    )
    got = gradium.read_message(text_of(fields, rng))
    kind = got["type"]
    gradium.string(got, "client_req_id")
    if kind == "setup":
        gradium.settings_of(got)
        gradium.string(got, "voice_id", "voice")
        Sending(gradium.string(got, "output_format") or "wav", 24000)
        wanted = gradium.string(got, "input_format") or "wav"
        gradium_asr.sound_reader(wanted, 24000).push(rng.randbytes(300))
    elif kind == "audio":
        gradium_asr.sound_reader("wav", 24000).push(gradium.sound_of(got))
    elif kind == "text":
        gradium.words_of(got)
    elif kind == "flush":
        gradium_asr.Flushes().begun(got.get("flush_id"))


def try_realtime(rng: random.Random, _folder: Path) -> None:
    """An event of the Realtime API; a session takes what it may change."""
    vad = {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 500}
    sound = {"type": "audio/pcm", "rate": 24000}
    input_ = {"format": sound, "turn_detection": vad, "transcription": {"model": "m"}}
    session = {"type": "realtime", "audio": {"input": input_, "output": {"speed": 1}}}
    session["audio"]["output"]["format"] = {"type": "audio/pcmu"}
    fields: dict[str, Any] = rng.choice(
        [
            {"type": "session.update", "session": {**session, "instructions": "a"}},
            {"type": "input_audio_buffer.append", "audio": SOUND},
        ]
    )
    got = realtime.read_event(text_of(fields, rng))
    if got["type"] == "session.update" and isinstance(got.get("session"), dict):
        service = SimpleNamespace(batch=None, about=None, speech=SpeechService())
        made = RealtimeSession.of(cast(Service, service), {})
        made.update(got["session"])
        made.reader(24000).push(rng.randbytes(200))
        made.writer(24000)
        json.dumps(made.shown)
    elif got["type"] == "input_audio_buffer.append":
        realtime.sound_of(got)


class _Ears:
    """A place that never hears anything."""

    sample_rate = 24000

    async def put(self, _pcm: object) -> None:
        pass

    async def aclose(self) -> None:
        pass

    async def __aiter__(self):
        await asyncio.Event().wait()
        yield


def try_wyoming(rng: random.Random, _folder: Path) -> None:
    """Events of Wyoming, from bytes to the sound or the text in them."""
    shape = {"rate": 16000, "width": 2, "channels": 1}
    head: dict[str, Any] = rng.choice(
        [
            {"type": "audio-start", "data": shape},
            {"type": "audio-chunk", "data": shape, "payload_length": 40},
            {"type": "synthesize", "data": {"text": "<b>a</b>", "text_format": "ssml"}},
            {"type": "transcribe", "data_length": 18},
        ]
    )
    data = text_of(head, rng) + b"\n"
    data += b'{"language": "en"}' if "data_length" in head else b""
    data += rng.randbytes(40) if "payload_length" in head else b""

    async def read() -> None:
        bounds = Bounds(event_s=1.0, idle_s=1.0)
        reader = asyncio.StreamReader(bounds.line_bytes)
        reader.feed_data(data)
        reader.feed_eof()
        while (received := await read_event(reader, bounds)) is not None:
            event = received.event
            if event.type.startswith("synthesize"):
                plain_text(event)
            elif event.type.startswith("audio"):
                await _hear(event.data, event.payload or b"", bounds)

    asyncio.run(read())


async def _hear(shape: dict[str, Any], payload: bytes, bounds: Bounds) -> None:
    async def send(_event: object) -> None:
        pass

    hearing = Transcription(cast(Ears, _Ears()), send, bounds, shape)
    try:
        await hearing.take(payload)
    finally:
        await hearing.close()


def try_openai(rng: random.Random, _folder: Path) -> None:
    """The JSON bodies of OpenAI's API."""
    message = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    common = {"model": "m", "stream": True, "seed": 1, "stop": ["a"], "top_p": 0.5}
    spoken = {"input": "a", "voice": "alloy", "speed": 1, "response_format": "wav"}
    kind = rng.randrange(3)
    if kind == 0:
        speech.read_request(text_of(spoken, rng))
    elif kind == 1:
        asking.read_asked(text_of({**common, "prompt": "a"}, rng), chat=False)
    else:
        asking.read_asked(text_of({**common, "messages": [message]}, rng), chat=True)


def try_form(rng: random.Random, _folder: Path) -> None:
    """A posted form with a file."""
    from starlette.requests import Request

    fields = {"model": "m", "response_format": "json", "stream": "true"}
    fields["timestamp_granularities[]"] = "word"
    parts = [
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'
        for name, value in fields.items()
    ]
    file = 'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n'
    parts.append(f"{file}Content-Type: audio/wav\r\n\r\nRIFFabc")
    body = "".join(f"--edge\r\n{part}\r\n" for part in parts) + "--edge--\r\n"
    data = damaged(body.encode(), rng)
    kind = damaged(b"multipart/form-data; boundary=edge", rng)
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(data))]
    cuts = sorted(rng.randrange(len(data)) for _ in range(rng.choice((0, 1, 5))))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]

    async def receive() -> dict[str, Any]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def read() -> None:
        request = Request({"type": "http", "headers": headers, "app": None}, receive)
        async with forms.posted(request, "file") as (path, got):
            transcriptions.read_fields(got, path)

    asyncio.run(read())


def _in_words(attempt: Try) -> Try:
    """The same, where a refusal is one of our errors."""

    def trying(rng: random.Random, folder: Path) -> None:
        try:
            attempt(rng, folder)
        except Refused as error:
            raise ProtocolError(error.words) from error

    return trying


PARSERS: dict[str, Try] = {
    "moshi-server messages": try_moshi_server,
    "gradium messages": try_gradium,
    "realtime events": try_realtime,
    "wyoming events": try_wyoming,
    "openai bodies": _in_words(try_openai),
    "openai forms": _in_words(try_form),
}
