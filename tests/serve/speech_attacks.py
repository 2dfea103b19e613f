"""What strangers do to the routes for speech: see ``attacks``, which runs them too."""

import base64
import json
from collections.abc import Callable, Iterator
from socket import socket

import msgpack

from tests.serve.attacks import (
    BINARY,
    TEXT,
    UPGRADE,
    drained,
    flooding,
    frame,
    holding,
    opened,
)

Attack = Callable[[int], Iterator[None]]
WORDS = "hello there how are you today in paris " * 200
SOUND = base64.b64encode(bytes(48_000)).decode()


def at(port: int, path: str, receive_buffer: int = 0, more: str = "") -> socket:
    """A connection that has become a WebSocket, if it may."""
    head = UPGRADE.replace("/api/chat?{query}", path).format(more=more)
    raw = opened(port, head, receive_buffer)
    drained(raw, 0.05)
    return raw


def packed(**fields: object) -> bytes:
    return frame(BINARY, msgpack.packb(fields) or b"")


def said(**fields: object) -> bytes:
    return frame(TEXT, json.dumps(fields).encode())


def posted(path: str, kind: str, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {size}\r\n\r\n".encode() + body


def sound_faster_than_heard(port: int) -> Iterator[None]:
    data = packed(type="Audio", pcm=[0.1, -0.1] * 12_000)
    return flooding(at(port, "/api/asr-streaming"), data)


def markers(port: int) -> Iterator[None]:
    data = packed(type="Marker", id=1) * 500
    return flooding(at(port, "/api/asr-streaming"), data)


def listening_anew(port: int) -> Iterator[None]:
    return flooding(at(port, "/api/asr-streaming"), packed(type="Init") * 200)


def text_faster_than_said(port: int) -> Iterator[None]:
    path = "/api/tts_streaming?format=PcmMessagePack"
    return flooding(at(port, path, 2048), packed(type="Text", text=WORDS))


def voices_that_are_none(port: int) -> Iterator[None]:
    data = packed(type="Voice", embeddings=[0.5] * 9000, shape=[1, 90, 100])
    return flooding(at(port, "/api/tts_streaming"), data)


def unread_speech(port: int) -> Iterator[None]:
    body = json.dumps({"input": WORDS[:7000], "response_format": "wav"}).encode()
    data = posted("/v1/audio/speech", "application/json", body)
    return holding(opened(port, data, 2048), 2)


def files_to_transcribe(port: int) -> Iterator[None]:
    part = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    wav = (
        b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\1\0\xc0]\0\0\x80\xbb\0\0\2\0\x10\0"
    )
    wav += b"data\xff\xff\xff\xff" + bytes(range(256)) * 2000
    body = b"--e\r\n" + part + wav + b"\r\n--e--\r\n"
    kind = "multipart/form-data; boundary=e"
    return holding(opened(port, posted("/v1/audio/transcriptions", kind, body)), 1)


def form_without_end(port: int) -> Iterator[None]:
    part = b'--e\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    kind = "multipart/form-data; boundary=e"
    head = posted("/v1/audio/transcriptions", kind, part, 200 << 20)
    return flooding(opened(port, head), bytes(60_000))


def fields_without_number(port: int) -> Iterator[None]:
    part = b'--e\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n'
    kind = "multipart/form-data; boundary=e"
    data = posted("/v1/audio/transcriptions", kind, part * 5000)
    return holding(opened(port, data), 0.3)


def requests_at_once(port: int) -> Iterator[None]:
    setups = [
        said(type="setup", client_req_id=str(n), output_format="pcm") for n in range(9)
    ]
    return flooding(at(port, "/api/speech/tts"), b"".join(setups))


def base64_without_sense(port: int) -> Iterator[None]:
    raw = at(port, "/api/speech/asr")
    raw.sendall(said(type="setup", input_format="wav"))
    return flooding(raw, said(type="audio", audio="A" * 40_000))


def appended_sound(port: int) -> Iterator[None]:
    data = said(type="input_audio_buffer.append", audio=SOUND)
    return flooding(at(port, "/v1/realtime?intent=transcription"), data)


def updated_sessions(port: int) -> Iterator[None]:
    session = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
    data = said(type="session.update", session=session) * 50
    return flooding(at(port, "/v1/realtime?intent=transcription", 2048), data)


def deep_json(port: int) -> Iterator[None]:
    return flooding(at(port, "/v1/realtime"), frame(TEXT, b"[" * 50_000))


SPEECH: dict[str, Attack] = {
    kind.__name__: kind
    for kind in (
        *(sound_faster_than_heard, markers, listening_anew, text_faster_than_said),
        *(voices_that_are_none, unread_speech, files_to_transcribe, form_without_end),
        *(fields_without_number, requests_at_once, base64_without_sense),
        *(appended_sound, updated_sessions, deep_json),
    )
}
