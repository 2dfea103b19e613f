"""Who stalls, floods, or stays without a wish costs the others nothing."""

import asyncio
import contextlib
import os
import socket
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from wyoming import tts
from wyoming.audio import AudioChunk, AudioStart
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.ping import Ping

from moshi_mlx.errors import ProtocolError
from moshi_mlx.serve.protocols.wyoming import client as server_side
from moshi_mlx.serve.protocols.wyoming.backlog import Backlog
from moshi_mlx.serve.protocols.wyoming.requests import Transcription
from moshi_mlx.serve.protocols.wyoming.visits import Visits
from moshi_mlx.serve.protocols.wyoming.wire import Bounds, read_event
from tests.serve.client import PATIENCE_S
from tests.serve.wyoming.fakes import FakeSpeech, connected, served, settled
from tests.serve.wyoming.reading import until

NO_PROC = not os.path.exists("/proc/self/fd")
START = AudioStart(24000, 2, 1).event()


def chunk(samples: int) -> Event:
    return AudioChunk(24000, 2, 1, bytes(2 * samples)).event()


def clients(port: int, count: int) -> list[AsyncTcpClient]:
    wait = {"read_timeout": PATIENCE_S}
    return [AsyncTcpClient("127.0.0.1", port, **wait) for _ in range(count)]


@pytest.mark.skipif(NO_PROC, reason="not on systems without /proc")
def test_who_reads_nothing_is_cut_off_and_keeps_no_handle():
    def handles() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        bounds = Bounds(send_s=0.1, linger_s=0.1)
        async with served(FakeSpeech(), bounds) as port:
            before = handles()
            with socket.socket() as deaf:
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                deaf.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(deaf, ("127.0.0.1", port))
                ping = b'{"type": "ping", "data": {"text": "%s"}}\n' % (b"x" * 60_000)
                with pytest.raises(OSError):  # reset, or broken pipe
                    while True:
                        await loop.sock_sendall(deaf, ping)
                while handles() > before + 1:
                    await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_of_one_address_the_client_that_rested_longest_makes_room():
    speech = FakeSpeech()

    async def main() -> None:
        async with served(speech, Bounds(per_address=2)) as port:
            first, second, third, fourth = clients(port, 4)
            async with first, second:
                for client in (first, second):
                    await client.write_event(Ping("here").event())
                    await until(client, "pong")
                await first.write_event(START)
                while not speech.open:
                    await asyncio.sleep(0.01)
                async with third:
                    assert await second.read_event() is None
                    await third.write_event(START)
                    while len(speech.open) < 2:
                        await asyncio.sleep(0.01)
                    async with fourth:
                        (error,) = await until(fourth, "error")
                        assert "too many clients" in error.data["text"]
                    await first.write_event(Ping("still").event())
                    await until(first, "pong")
            await settled(speech)

    asyncio.run(main())


def test_clients_are_counted_for_each_address_and_in_all():
    sent_away: list[str] = []

    def arrive(visits: Visits, address: str, rests_since: float | None) -> Any:
        def cancel() -> None:
            sent_away.append(address)

        task: Any = SimpleNamespace(cancel=cancel)
        if (visit := visits.begin(task, address)) is not None:
            visit.client = SimpleNamespace(rests_since=rests_since)  # type: ignore[assignment]
        return visit

    visits = Visits(Bounds(clients=4, per_address=2))
    busy = [arrive(visits, "10.0.0.1", None) for _ in range(2)]
    assert all(busy) and arrive(visits, "10.0.0.1", 0.0) is None
    assert arrive(visits, "10.0.0.2", 2.0) and arrive(visits, "10.0.0.3", 1.0)
    assert len(visits) == 4 and not sent_away
    assert arrive(visits, "10.0.0.4", None) and sent_away == ["10.0.0.3"]
    assert arrive(visits, "10.0.0.5", None) and sent_away[1:] == ["10.0.0.2"]
    assert arrive(visits, "10.0.0.6", None) is None
    for _ in range(2):
        visits.end(busy[0])
    assert arrive(visits, "10.0.0.1", None) and len(visits) == 4
    visits.end_all()
    assert sorted(sent_away[2:]) == sorted(f"10.0.0.{n}" for n in (1, 1, 4, 5))


@pytest.mark.parametrize(
    "begin, bounds",
    [
        (START, Bounds(sound_pause_s=0.05)),
        (tts.SynthesizeStart().event(), Bounds(text_pause_s=0.05)),
    ],
    ids=["sound", "text"],
)
def test_a_request_that_is_not_gone_on_with_frees_its_place(begin, bounds):
    speech = FakeSpeech()

    async def main() -> None:
        async with connected(speech, bounds) as client:
            await client.write_event(begin)
            while True:  # answers to pings keep no request alive
                await client.write_event(Ping("x").event())
                event = await client.read_event()
                assert event is not None
                if event.type == "error":
                    break
            assert "nothing more of the request came for 0.05 s" in event.data["text"]
            await settled(speech)

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_a_request_cannot_be_drawn_out_for_ever():
    speech = FakeSpeech()

    async def main() -> None:
        async with connected(speech, Bounds(request_s=0.1)) as client:
            await client.write_event(START)
            telling = asyncio.ensure_future(until(client, "error"))
            while not telling.done():
                await client.write_event(chunk(1))
                await asyncio.sleep(0.02)
            assert (
                "a request may take 0.1 s at most" in telling.result()[-1].data["text"]
            )
            await settled(speech)

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_a_pause_is_not_counted_while_nothing_was_asked_for():
    async def main() -> None:
        bounds = Bounds(sound_pause_s=0.01, text_pause_s=0.01, request_s=0.01)
        async with connected(FakeSpeech(), bounds) as client:
            for _ in range(3):
                await asyncio.sleep(0.03)
                await client.write_event(Ping("x").event())
                await until(client, "pong")

    asyncio.run(main())


def test_few_bytes_wait_for_a_model_and_none_is_lost():
    backlog = Backlog(100)
    backlog.put(Event("a"), 99)
    assert not backlog.full
    backlog.put(Event("long"), 10**9)
    assert backlog.full and backlog.size == 10**9 + 99

    async def taken() -> list[str]:
        return [(await backlog.get()).type for _ in "ab"]

    assert asyncio.run(taken()) == ["a", "long"]
    assert not backlog.full and backlog.size == 0


def test_events_behind_one_another_are_read_slowly_while_others_are_answered():
    sent = 20_000

    async def main() -> int:
        async with served(FakeSpeech()) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            answered = 0

            async def count() -> None:
                nonlocal answered
                while await reader.readline():
                    answered += 1

            counting = asyncio.ensure_future(count())
            writer.write(b'{"type": "ping"}\n' * sent)
            while not answered:
                await asyncio.sleep(0.01)
            (honest,) = clients(port, 1)
            async with honest:
                for _ in range(20):
                    await honest.write_event(Ping("me too").event())
                    await until(honest, "pong")
            counting.cancel()
            writer.transport.abort()
            return answered

    assert 0 < asyncio.run(main()) < sent


class Pieces:
    """Ears that keep what they get."""

    sample_rate = 24000

    def __init__(self) -> None:
        self.pieces: list[np.ndarray] = []

    async def put(self, pcm: np.ndarray) -> None:
        self.pieces.append(pcm)

    async def __aiter__(self):
        await asyncio.Event().wait()
        yield

    async def aclose(self) -> None: ...


def test_who_hangs_up_is_not_read_to_the_end(monkeypatch):
    monkeypatch.setattr(server_side, "hung_up", lambda numbers: numbers)
    sent = 20_000

    async def main() -> int:
        async with served(FakeSpeech()) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b'{"type": "ping"}\n' * sent)
            answered = 0
            with contextlib.suppress(ConnectionError):
                while await reader.readline():
                    answered += 1
            writer.transport.abort()
            return answered

    assert 0 < asyncio.run(main()) < sent


def test_a_long_sound_is_heard_in_pieces_and_whole():
    async def main() -> None:
        ears: Any = Pieces()

        async def send(_event: object) -> None: ...

        sound = np.arange(-30_000, 30_000, dtype="<i2")
        hearing = Transcription(ears, send, Bounds(), {"rate": 24000})
        await hearing.take(sound.tobytes())
        await hearing.close()
        assert max(map(len, ears.pieces)) <= 8192
        whole = np.concatenate(ears.pieces)
        np.testing.assert_array_equal(whole, sound / np.float32(32768))

    asyncio.run(main())


def test_what_nobody_uses_of_an_event_is_dropped():
    line = (
        b'{"type": "synthesize", "data": {"text": "a", "more": [1, 2], "rate": [[1]], '
        b'"voice": {"name": {"x": 1}, "other": [1]}}}\n'
    )

    async def main() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(line)
        received = await read_event(reader, Bounds())
        assert received is not None and received.size == len(line)
        used = {"text": "a", "rate": [], "voice": {"name": []}}
        assert received.event.data == used

    asyncio.run(main())


def test_a_page_in_a_browser_cannot_speak_wyoming():
    speech = FakeSpeech()
    body = b'{"type": "synthesize", "data": {"text": "hello"}}\n'
    head = b"POST / HTTP/1.1\r\nHost: localhost:10300\r\nContent-Length: %d\r\n\r\n"

    async def main() -> bytes:
        async with served(speech) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head % len(body) + body)
            said = await asyncio.wait_for(reader.read(), PATIENCE_S)
            writer.close()
            return said

    assert b"this port speaks Wyoming" in asyncio.run(main())
    assert not speech.said and not speech.open


@pytest.mark.parametrize("wait_s", [0.0, 0.01, 0.03])
def test_a_port_that_closes_waits_until_the_places_are_free(wait_s):
    speech = FakeSpeech(closing_s=0.02)

    async def main() -> None:
        async with served(speech) as port:
            (client,) = clients(port, 1)
            async with client:
                await client.write_event(tts.Synthesize("hello there").event())
                await until(client, "audio-stop")
            await asyncio.sleep(wait_s)  # the server frees the place meanwhile
        assert not speech.open

    asyncio.run(main())


def test_the_limits_are_those_of_the_documentation():
    bounds = Bounds()
    assert (bounds.clients, bounds.per_address) == (32, 16)
    assert (bounds.send_s, bounds.idle_s, bounds.wait_s) == (10, 120, 10)
    assert (bounds.sound_pause_s, bounds.text_pause_s) == (10, 60)
    assert (bounds.request_s, bounds.heard_s, bounds.text_chars) == (1800, 900, 20_000)
    assert (bounds.event_s, bounds.linger_s) == (10, 3)
    sizes = bounds.line_bytes, bounds.data_bytes, bounds.waiting_bytes
    assert (*sizes, bounds.payload_bytes) == (65_536, 131_072, 262_144, 1_048_576)


@pytest.mark.parametrize("length", ['"x"', "1.5", "true", "-1", "[]", "1048577"])
def test_a_length_that_is_none_is_refused(length):
    async def main() -> None:
        reader = asyncio.StreamReader()
        line = f'{{"type": "audio-chunk", "payload_length": {length}}}\n'
        reader.feed_data(line.encode() + bytes(10))
        with pytest.raises(ProtocolError, match="payload_length must be 0 to 1048576"):
            await read_event(reader, Bounds())

    asyncio.run(main())
