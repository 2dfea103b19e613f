"""What strangers do to the server's HTTP and WebSockets: see ``attacks``, which runs
them too."""

import json
import zlib
from collections.abc import Callable, Iterator
from socket import SHUT_WR, socket
from time import sleep

from tests.serve.attacks import BINARY, TEXT, drained, flooding, frame, holding, opened
from tests.serve.speech_attacks import at, posted

Attack = Callable[[int], Iterator[None]]
HEAD = "GET {} HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = (
    "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\n"
    "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)
FORM = "multipart/form-data; boundary=e"
PART = b'--e\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


def pipelined(port: int) -> Iterator[None]:
    return flooding(opened(port), (HEAD.format("/health") + "\r\n").encode() * 500)


def half_closed(port: int) -> Iterator[None]:
    raw = opened(port, HEAD.format("/v1/models") + "\r\n")
    raw.shutdown(SHUT_WR)
    return holding(raw, 0.2)


def chunks_of_a_byte(port: int) -> Iterator[None]:
    return flooding(opened(port, CHUNKED), b"1\r\nx\r\n" * 5000)


def long_chunk_lines(port: int) -> Iterator[None]:
    return flooding(opened(port, CHUNKED + "2;a="), b"x" * 30_000)


def trailers_without_end(port: int) -> Iterator[None]:
    return flooding(opened(port, CHUNKED + "2\r\n{}\r\n0\r\n"), b"X: y\r\n" * 5000)


def promised_bodies(port: int) -> Iterator[None]:
    head = "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue"
    return holding(opened(port, head + "\r\nContent-Length: 500000\r\n\r\n"), 2)


def ranges_upon_ranges(port: int) -> Iterator[None]:
    ranges = "Range: bytes=" + ",".join(f"{n}-" for n in range(1200)) + "\r\n\r\n"
    raw = opened(port, HEAD.format("/app.js") + ranges)
    drained(raw, 0.2)
    return holding(raw, 0.1)


def deep_body(port: int) -> Iterator[None]:
    body = b'{"input": ' + b"[" * 500_000
    raw = opened(port, posted("/v1/audio/speech", "application/json", body))
    return holding(raw, 0.2)


def numbers_without_end(port: int) -> Iterator[None]:
    body = b'{"input": "a", "speed": ' + b"9" * 500_000 + b"}"
    raw = opened(port, posted("/v1/audio/speech", "application/json", body))
    return holding(raw, 0.2)


def headers_of_a_part(port: int) -> Iterator[None]:
    raw = opened(port, posted("/v1/audio/transcriptions", FORM, b"--e\r\n", 200 << 20))
    return flooding(raw, b"X-Header: " + b"y" * 5000 + b"\r\n")


def parts_without_end(port: int) -> Iterator[None]:
    raw = opened(port, posted("/v1/audio/transcriptions", FORM, b"", 200 << 20))
    return flooding(raw, PART + b"x\r\n")


def almost_boundaries(port: int) -> Iterator[None]:
    raw = opened(port, posted("/v1/audio/transcriptions", FORM, PART, 200 << 20))
    return flooding(raw, b"\r\n--\r\n-\r\n--d" * 5000)


def slow_form(port: int) -> Iterator[None]:
    raw = opened(port, posted("/v1/audio/transcriptions", FORM, PART, 1 << 20))
    with raw:
        for _ in range(40):
            raw.sendall(b"RIFF")
            sleep(0.05)
            yield


def compressed_bomb(port: int) -> Iterator[None]:
    squeezed = zlib.compressobj(wbits=-15)
    data = squeezed.compress(bytes(50 << 20)) + squeezed.flush(zlib.Z_SYNC_FLUSH)
    more = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    raw = at(port, "/api/asr-streaming", more=more)
    sent = bytearray(frame(BINARY, data[:-4]))
    sent[0] |= 0x40
    return flooding(raw, bytes(sent))


def closed_again_and_again(port: int) -> Iterator[None]:
    return flooding(at(port, "/v1/realtime"), frame(8, b"\x03\xe8") * 5000)


def names_of_sessions(port: int) -> Iterator[None]:
    raw = at(port, "/v1/realtime")
    session = {"type": "realtime", "instructions": "x" * 200_000}
    event = json.dumps({"type": "session.update", "session": session})
    return flooding(raw, frame(TEXT, event.encode()))


def items_without_end(port: int) -> Iterator[None]:
    raw, content = at(port, "/v1/realtime"), [{"type": "input_text", "text": "x" * 900}]
    item = {"type": "message", "role": "user", "content": content}
    event = json.dumps({"type": "conversation.item.create", "item": item})
    return flooding(raw, frame(TEXT, event.encode()) * 20)


def responses_at_once(port: int) -> Iterator[None]:
    return flooding(
        at(port, "/v1/realtime"), frame(TEXT, b'{"type": "response.create"}')
    )


def voices_to_clone(port: int) -> Iterator[None]:
    wav = (
        b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\1\0\xc0]\0\0\x80\xbb\0\0\2\0\x10\0"
    )
    wav += b"data\xff\xff\xff\xff" + bytes(range(256)) * 2000
    return holding(opened(port, posted("/api/voice", "audio/wav", wav)), 1)


def secrets_without_end(port: int) -> Iterator[None]:
    body = posted("/v1/realtime/client_secrets", "application/json", b"{}")
    for _ in range(50):
        raw: socket = opened(port, body)
        drained(raw, 0.02)
        raw.close()
        yield


HTTP: dict[str, Attack] = {
    kind.__name__: kind
    for kind in (
        *(pipelined, half_closed, chunks_of_a_byte, long_chunk_lines),
        *(trailers_without_end, promised_bodies, ranges_upon_ranges, deep_body),
        *(numbers_without_end, headers_of_a_part, parts_without_end, slow_form),
        *(almost_boundaries, compressed_bomb, closed_again_and_again),
        *(names_of_sessions, items_without_end, responses_at_once, voices_to_clone),
        secrets_without_end,
    )
}
