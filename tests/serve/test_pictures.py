"""Pictures over the network: shown first, later, by the server, broken, too many."""

import asyncio
import contextlib
import io
import json
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed

import moshi_mlx
from moshi_mlx.engines.duplex.batch import Batch
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.errors import ProtocolError
from moshi_mlx.serve.eyes import Look, colour_of
from moshi_mlx.serve.gate.limits import IMAGE_BYTES, Inflow, Limits
from moshi_mlx.serve.protocols.moshi.settings import read_settings
from moshi_mlx.serve.service import load_batch
from tests.serve.client import (
    AUDIO,
    CONTROL,
    HANDSHAKE,
    METADATA,
    PING,
    RESTART,
    arrived,
    joined,
)
from tests.serve.conftest import HASTY
from tests.vision import picture, vis_folder

GREEDY = "format=pcm&text_temperature=0&audio_temperature=0"
PROMISED = f"{GREEDY}&image_resolution=28&xa_start=3&center_crop=false"
FRAMES = 12
SEEING = HASTY.with_images()


def png(seed: int = 0) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(seed)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def seeing(tmp_path_factory) -> Batch:
    folder = vis_folder(tmp_path_factory.mktemp("vis"))
    return load_batch(model_thread(), lambda: moshi_mlx.load(folder), 2)


@pytest.fixture(scope="module")
def moshi(seeing) -> Moshi:
    assert isinstance(seeing.moshi, Moshi)
    return seeing.moshi


@pytest.fixture(scope="module")
def heard() -> list[np.ndarray]:
    noise = np.random.default_rng(1).standard_normal((FRAMES, 1920)) * 0.1
    return list(noise.astype(np.float32))


def expected(moshi: Moshi, heard, seed: int | None, start: int = 3) -> str:
    """What the model says to it in a session of its own; the last frame's text comes
    after its sound, for which clients here wait."""
    session = moshi.session(temp=0, temp_text=0, first="silence")
    if seed is not None:
        session.show(moshi.encode_image(picture(seed)), start)
    return "".join([session.step(frame).text for frame in heard][:-1])


def test_a_picture_that_comes_first_is_waited_for_and_seen(serve, seeing, moshi, heard):
    server = serve(batch=seeing, limits=SEEING)

    async def run():
        async with arrived(server.chat(PROMISED)) as client:
            await client.show(png())
            await client.until(HANDSHAKE)
            await client.converse(heard)
            return client

    client = asyncio.run(run())
    assert client.text == expected(moshi, heard, 0)
    assert client.text != expected(moshi, heard, None)
    assert client.kinds[:2] == [METADATA, HANDSHAKE]
    assert client.colours and set(client.colours) == {10}  # its gates are wide open


def test_two_clients_see_each_their_own(serve, seeing, moshi, heard):
    server = serve(batch=seeing, places=2, limits=SEEING)

    async def talk(seed: int) -> str:
        async with arrived(server.chat(PROMISED)) as client:
            await client.show(png(seed))
            await client.until(HANDSHAKE)
            await client.converse(heard)
            return client.text

    async def run():
        return await asyncio.gather(talk(0), talk(1))

    assert asyncio.run(run()) == [expected(moshi, heard, seed) for seed in (0, 1)]


def test_a_picture_may_come_in_the_middle_and_stays_after_a_restart(
    serve, seeing, moshi, heard
):
    server = serve(batch=seeing, limits=SEEING)

    async def run():
        async with joined(server.chat(GREEDY)) as client:
            await client.converse(heard)
            blind = client.text
            await client.show(png(1))
            await client.until(METADATA)
            await client.control(RESTART)
            await client.until(CONTROL)
            client.text = ""
            await client.converse([*heard, *heard])
            return blind, client

    blind, client = asyncio.run(run())
    assert blind == expected(moshi, heard, None)
    assert {"image": {"seen": True}} in client.metadata
    assert client.text == expected(moshi, [*heard, *heard], 1, start=16)
    assert client.errors == []


def test_the_server_s_own_picture_is_seen_by_who_brings_none(
    serve, seeing, moshi, heard
):
    server = serve(batch=seeing, limits=SEEING)
    server.service.eyes.show(picture(1))

    async def run():
        async with joined(server.chat(f"{GREEDY}")) as client:
            await client.converse([*heard, *heard])
            return client.text

    assert asyncio.run(run()) == expected(moshi, [*heard, *heard], 1, start=16)


def test_who_waits_for_a_place_may_show_a_picture_meanwhile(
    serve, seeing, moshi, heard
):
    server = serve(batch=seeing, limits=SEEING)

    async def run():
        async with (
            joined(server.chat(GREEDY)) as first,
            arrived(server.chat(f"{PROMISED}&queue=1")) as second,
        ):
            await second.until(METADATA)  # its place in the queue
            await second.show(png())
            await asyncio.sleep(0.2)
            await first.socket.close()
            await second.until(HANDSHAKE)
            await second.converse(heard)
            return second.text

    assert asyncio.run(run()) == expected(moshi, heard, 0)


@pytest.mark.parametrize(
    "query, file, words",
    [
        (PROMISED, b"no image", "the image is no image that can be read: give a JPEG"),
        (f"{GREEDY}&image_resolution=3", None, "an image of 3 pixels was asked for"),
        (f"{GREEDY}&image_resolution=x", None, "image_resolution='x' must be a number"),
        (f"{GREEDY}&xa_start=-1", None, "xa_start='-1' must be a number from 0"),
    ],
)
def test_a_first_picture_that_cannot_be_ends_it_in_a_sentence(
    serve, seeing, query, file, words
):
    server = serve(batch=seeing, limits=SEEING)

    async def run():
        async with arrived(server.chat(query)) as client:
            with contextlib.suppress(ConnectionClosed):  # who asks so is not heard
                await client.show(png() if file is None else file)
            return await client.until_closed(), client.errors

    code, (error,) = asyncio.run(run())
    assert code == 1008 and words in error


def test_a_later_picture_that_cannot_be_is_told_and_the_talk_goes_on(
    serve, seeing, moshi, heard
):
    server = serve(batch=seeing, limits=SEEING)

    async def run():
        async with joined(server.chat(GREEDY)) as client:
            await client.show(b"no image")
            await client.until(METADATA)
            await client.converse(heard)
            return client

    client = asyncio.run(run())
    assert "is no image" in client.metadata[-1]["image"]["error"]
    assert client.text == expected(moshi, heard, None)


def test_who_promises_a_picture_and_speaks_instead_is_answered(
    serve, seeing, moshi, heard
):
    server = serve(batch=seeing, limits=SEEING)

    async def run():
        async with arrived(server.chat(PROMISED)) as client:
            await client.say(heard[0])
            await client.until(AUDIO)
            await client.converse(heard[1:])
            return client.text

    assert asyncio.run(run()) == expected(moshi, heard, None)


def test_who_promises_a_picture_and_sends_nothing_is_let_go(serve, seeing):
    limits = replace(SEEING, idle_s=0.6, ping_s=0.2)
    server = serve(batch=seeing, limits=limits)

    async def run():
        async with arrived(server.chat(PROMISED)) as client:
            return await client.until_closed(), client

    code, client = asyncio.run(run())
    assert code == 1000 and PING in client.kinds
    assert "that was announced did not come" in client.errors[0]


def test_a_model_that_sees_none_waits_for_none(serve):
    server = serve()

    async def run():
        async with joined(server.chat(f"{PROMISED}")) as client:
            await client.show(png())
            await client.say(np.zeros(1920, np.float32))
            await client.until(AUDIO)
            return client.errors

    assert asyncio.run(run()) == []
    assert sees(server) is False


def sees(server) -> bool:
    with urllib.request.urlopen(server.url("/api/build_info")) as answer:
        return json.load(answer)["sees"]


def test_clients_are_told_that_the_model_sees(serve, seeing):
    assert sees(serve(batch=seeing, limits=SEEING)) is True


def test_a_long_file_is_taken_only_where_the_model_sees(serve, seeing):
    long = png() + bytes(2 << 20)  # what follows a PNG is not read

    async def run(server):
        async with arrived(server.chat(PROMISED)) as client:
            with contextlib.suppress(ConnectionClosed):  # refused while it is sent
                await client.show(long)
            return await client.until_closed()

    async def seen(server):
        async with arrived(server.chat(PROMISED)) as client:
            await client.show(long)
            await client.until(HANDSHAKE)

    assert asyncio.run(run(serve())) == 1009
    asyncio.run(seen(serve(batch=seeing, limits=SEEING)))


def test_pictures_are_rationed():
    inflow = Inflow(Limits(burst_restarts=2))
    inflow.image()
    inflow.restart()
    with pytest.raises(ProtocolError, match="too many pictures: wait"):
        inflow.image()
    roomy = Limits(session_s=5).with_images()
    assert roomy.message_bytes == IMAGE_BYTES > 15e6 and roomy.session_s == 5
    assert roomy.burst_bytes < 2 * IMAGE_BYTES  # one at a time from an address


def test_the_query_says_how_a_picture_is_seen():
    assert read_settings({}).look == Look()
    kyutais = {
        "image_resolution": "448",
        "center_crop": "true",
        "xa_start": "0",
        "text_temperature_gating_influence": "0",
        "pad_mult": "0",
    }
    assert read_settings(kyutais).look == Look(True, 448, True, 0)


@pytest.mark.parametrize(
    "gate, colour", [(0.0, 0), (0.005, 0), (0.013, 5), (0.021, 10), (0.9, 10)]
)
def test_words_are_coloured_as_by_kyutai_s_server(gate: float, colour: int):
    assert colour_of(gate) == colour
