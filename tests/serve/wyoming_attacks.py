"""What strangers do to the Wyoming port: see ``attacks``, which runs them too."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import count
from random import randbytes
from socket import socket
from typing import Any

from tests.serve.attacks import drained, flooding, holding, opened

Attack = Callable[[int], Iterator[None]]
WORDS = "hello there how are you today in paris " * 60
SHAPE: dict[str, Any] = {"rate": 16000, "width": 2, "channels": 1}


def event(kind: str, sound: bytes = b"", **data: object) -> bytes:
    head: dict[str, object] = {"type": kind, "data": data}
    if sound:
        head["payload_length"] = len(sound)
    return json.dumps(head).encode() + b"\n" + sound


def deaf(port: int, data: bytes) -> socket:
    """A connection that will read nothing."""
    return opened(port, data, receive_buffer=2048)


def wyoming_silence(port: int) -> Iterator[None]:
    return holding(opened(port))


def wyoming_half_a_line(port: int) -> Iterator[None]:
    return holding(opened(port, b'{"type": "descri'))


def wyoming_endless_line(port: int) -> Iterator[None]:
    return flooding(opened(port), b"x" * 60_000)


def wyoming_huge_lengths(port: int) -> Iterator[None]:
    head = {"type": "audio-chunk", "data_length": 10**18, "payload_length": 10**18}
    return holding(opened(port, json.dumps(head) + "\n"), 0.1)


def wyoming_promised_sound(port: int) -> Iterator[None]:
    head = b'{"type": "audio-chunk", "payload_length": 1048576}\n'
    return holding(opened(port, head + bytes(100_000)))


def wyoming_deep_json(port: int) -> Iterator[None]:
    return holding(opened(port, b"[" * 60_000 + b"\n"), 0.1)


def wyoming_lists(port: int) -> Iterator[None]:
    data = b'{"type": "synthesize-chunk", "data": {"text": [%s[]]}}\n'
    return flooding(opened(port), data % (b"[]," * 20_000))


def wyoming_pings(port: int) -> Iterator[None]:
    raw = opened(port)
    for _ in flooding(raw, event("ping") * 2000):
        drained(raw)
        yield


def wyoming_unread_pongs(port: int) -> Iterator[None]:
    return flooding(deaf(port, b""), event("ping", text="x" * 50_000))


def wyoming_descriptions(port: int) -> Iterator[None]:
    return flooding(deaf(port, b""), event("describe") * 500)


def wyoming_sound_at_once(port: int) -> Iterator[None]:
    raw = opened(port, event("audio-start", **SHAPE))
    return flooding(raw, event("audio-chunk", bytes(1 << 20), **SHAPE))


def wyoming_sound_of_odd_rates(port: int) -> Iterator[None]:
    for rate in count(4001, 2):
        shape = {**SHAPE, "rate": rate}
        data = event("audio-start", **shape) + event("audio-chunk", bytes(9000))
        yield from holding(opened(port, data), 0.2)


def wyoming_empty_chunks(port: int) -> Iterator[None]:
    raw = opened(port, event("audio-start", **SHAPE))
    return flooding(raw, event("audio-chunk") * 2000)


def wyoming_requests_without_end(port: int) -> Iterator[None]:
    data = event("audio-start", **SHAPE) + event("synthesize-start")
    return holding(opened(port, data), 2)


def wyoming_unread_speech(port: int) -> Iterator[None]:
    return holding(deaf(port, event("synthesize", text=WORDS)), 2)


def wyoming_texts_in_letters(port: int) -> Iterator[None]:
    raw = opened(port, event("synthesize-start"))
    return flooding(raw, event("synthesize-chunk", text="x") * 500)


def wyoming_made_up_events(port: int) -> Iterator[None]:
    return flooding(opened(port), event("x" * 50_000, more=list(range(1000))))


def wyoming_come_and_go(port: int) -> Iterator[None]:
    for _ in range(20):
        with suppress(OSError):
            opened(port, event("synthesize", text="hello there")).close()
        yield


def wyoming_hundred_at_once(port: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(100):
            with suppress(OSError):
                stack.enter_context(opened(port, b"{"))
        yield from holding(opened(port), 1)


def wyoming_from_a_page(port: int) -> Iterator[None]:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60\r\n\r\n"
    return holding(opened(port, head + event("synthesize", text=WORDS)), 0.1)


def wyoming_noise(port: int) -> Iterator[None]:
    return flooding(opened(port), randbytes(20_000))


# Those that ask for no model, and those that do.
WIRE: dict[str, Attack] = {
    kind.__name__: kind
    for kind in (
        *(wyoming_silence, wyoming_half_a_line, wyoming_endless_line),
        *(wyoming_huge_lengths, wyoming_deep_json, wyoming_lists, wyoming_pings),
        *(wyoming_unread_pongs, wyoming_descriptions, wyoming_made_up_events),
        *(wyoming_hundred_at_once, wyoming_from_a_page, wyoming_noise),
    )
}
WYOMING = WIRE | {
    kind.__name__: kind
    for kind in (
        *(wyoming_promised_sound, wyoming_sound_at_once, wyoming_sound_of_odd_rates),
        *(wyoming_empty_chunks, wyoming_requests_without_end, wyoming_unread_speech),
        *(wyoming_texts_in_letters, wyoming_come_and_go),
    )
}
