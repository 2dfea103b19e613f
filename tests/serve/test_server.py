"""Conversations with a running server, by a client that shares no code with it."""

import asyncio
import json
import urllib.request
from functools import cache

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.checkpoint import memory
from moshi_mlx.engines.thread import ModelThread
from moshi_mlx.errors import ConfigError
from moshi_mlx.serve.gate.limits import Limits
from moshi_mlx.serve.service import load_batch
from tests.serve.client import (
    AUDIO,
    CONTROL,
    ERROR,
    HANDSHAKE,
    METADATA,
    PATIENCE_S,
    PAUSE,
    PING,
    RESTART,
    START,
    arrived,
    joined,
)

ANSWER = "Jupiter is the biggest planet."


@pytest.fixture(scope="module")
def alone(question):
    """What the model says by itself, without any server: per seed (pcm, text)."""
    moshi = moshi_mlx.load("demo")

    @cache
    def converse(seed: int) -> tuple[list[np.ndarray], str]:
        session = moshi.session(seed, first="silence")
        replies = [session.step(frame) for frame in question]
        return [r.pcm for r in replies if r.pcm is not None], "".join(
            r.text for r in replies
        )

    return converse


def assert_same_sound(heard, expected):
    assert len(heard) == len(expected)
    np.testing.assert_allclose(np.stack(heard), np.stack(expected), atol=1e-3)


def test_a_question_is_answered_as_the_model_answers_it(
    serve, question, alone, tmp_path
):
    server = serve(record=tmp_path)

    async def run():
        async with joined(server.chat("format=pcm&seed=4")) as client:
            kinds = list(client.kinds)
            await client.converse(question)
            stopping = asyncio.get_running_loop().run_in_executor(None, server.stop)
            code = await client.until_closed()
            await stopping
            return kinds, code, client

    kinds, code, client = asyncio.run(run())
    assert kinds == [METADATA, HANDSHAKE]
    expected, said = alone(4)
    assert_same_sound(client.pcm, expected)
    assert client.text == said and ANSWER in said
    assert (code, client.errors) == (1012, ["the server is shutting down."])
    (wav,) = tmp_path.glob("*.wav")
    user, moshi = moshi_mlx.audio.read(wav, mono=False)
    np.testing.assert_allclose(user, np.concatenate(question), atol=1e-4)
    np.testing.assert_allclose(moshi, np.concatenate(client.pcm), atol=1e-4)
    about = json.loads(wav.with_suffix(".json").read_text())
    assert about["seed"] == 4
    assert ANSWER in " ".join(word["text"] for word in about["words"])


def test_two_conversations_at_once_are_each_as_if_alone(serve, question, alone):
    async def run():
        url = serve(places=2).chat
        async with (
            joined(url("format=pcm&seed=4")) as first,
            joined(url("format=pcm&seed=5")) as second,
        ):
            await asyncio.gather(first.converse(question), second.converse(question))
            return (first.pcm, first.text), (second.pcm, second.text)

    for (heard, text), seed in zip(asyncio.run(run()), (4, 5), strict=True):
        expected, said = alone(seed)
        assert_same_sound(heard, expected)
        assert text == said


def test_opus_carries_the_same_conversation(serve, question):
    async def run():
        async with joined(serve().chat("text_temperature=0&audio_topk=1")) as client:
            return await client.converse(question), client.text

    heard, text = asyncio.run(run())
    assert ANSWER in text
    sound = np.concatenate(heard)
    assert {len(frame) for frame in heard} == {1920}
    assert np.sqrt(np.mean(sound**2)) > 0.01


def test_a_restart_forgets_the_conversation(serve, question, alone):
    async def run():
        async with joined(serve().chat("format=pcm&seed=4")) as client:
            await client.converse(question[5:20])
            await client.control(RESTART)
            await client.until(CONTROL)
            assert client.controls == [RESTART]
            return await client.converse(question[:25])

    assert_same_sound(asyncio.run(run()), alone(4)[0][:25])


def test_what_is_said_in_a_pause_is_not_heard(serve, question, alone):
    async def run():
        async with joined(serve().chat("format=pcm&seed=4")) as client:
            await client.converse(question[:10])
            await client.control(PAUSE)
            for frame in question[:5]:
                await client.say(frame)
            await client.control(START)
            await client.converse(question[10:25])
            return client.pcm

    assert_same_sound(asyncio.run(run()), alone(4)[0][:25])


def test_each_connection_begins_anew(serve, question, alone):
    server = serve()

    async def run():
        heard = []
        for _ in range(2):
            async with joined(server.chat("format=pcm&seed=4")) as client:
                heard.append(await client.converse(question[:25]))
        return heard

    for heard in asyncio.run(run()):
        assert_same_sound(heard, alone(4)[0][:25])


def test_the_address_sets_sampling_and_seed(serve):
    query = (
        "text_temperature=0.9&text_topk=12&audio_temperature=0.4&audio_topk=99"
        "&pad_mult=0&text_seed=7&audio_seed=7&repetition_penalty_context=32"
        "&repetition_penalty=1.2&email=a%40b.c&image_url=x"
    )

    async def run():
        async with joined(serve().chat(query)) as client:
            return client.metadata[0]

    about = asyncio.run(run())
    wanted = {
        "text_temperature": 0.9,
        "text_topk": 12,
        "audio_temperature": 0.4,
        "audio_topk": 99,
        "repetition_penalty_context": 32,
        "repetition_penalty": 1.2,
        "seed": 7,
    }
    assert {key: about[key] for key in wanted} == wanted


def test_seeds_change_the_answer(serve, question):
    async def run():
        heard = []
        for seed in (1, 1, 2):
            url = serve().chat(f"format=pcm&seed={seed}&audio_temperature=3")
            async with joined(url) as client:
                heard.append(np.concatenate(await client.converse(question[:12])))
        return heard

    first, again, other = asyncio.run(run())
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    "query, words",
    [
        ("text_temperature=warm", "text_temperature='warm' must be a number"),
        ("audio_topk=-1", "audio_topk"),
        ("seed=1.5", "whole number"),
        ("audio_temperature=nan", "audio_temperature"),
        ("format=mp3", "use opus or pcm"),
    ],
)
def test_a_wrong_setting_is_said(serve, query, words):
    async def run():
        async with arrived(serve().chat(query)) as client:
            return await client.until_closed(), client.errors

    code, errors = asyncio.run(run())
    assert code == 1008
    assert words in errors[0]


def test_who_comes_second_hears_busy_or_waits(serve, question):
    server = serve()

    async def run():
        async with joined(server.chat()) as first:
            async with arrived(server.chat()) as refused:
                code = await refused.until_closed()
                assert (code, refused.kinds) == (1013, [ERROR])
                assert "busy" in refused.errors[0]
            async with (
                arrived(server.chat("queue=1&format=pcm")) as second,
                arrived(server.chat("queue=1&format=pcm")) as third,
            ):
                await second.until(METADATA)
                await third.until(METADATA)
                assert second.metadata == [{"queue": {"place": 1}}]
                assert third.metadata == [{"queue": {"place": 2}}]
                await first.socket.close()
                await second.until(HANDSHAKE)
                await third.until(METADATA)
                assert third.metadata[-1] == {"queue": {"place": 1}}
                await second.converse(question[:2])
                await second.socket.close()
                await third.until(HANDSHAKE)
                await third.converse(question[:2])

    asyncio.run(run())
    assert server.service.metrics.connections.counts["busy"] == 1


def test_whoever_leaves_the_queue_frees_it(serve):
    server = serve()

    async def run():
        async with joined(server.chat()) as first:
            async with arrived(server.chat("queue=1")) as waiting:
                await waiting.until(METADATA)
            async with arrived(server.chat("queue=1&format=pcm")) as next_one:
                while not next_one.metadata or (
                    next_one.metadata[-1] != {"queue": {"place": 1}}
                ):
                    await next_one.receive()
                await first.socket.close()
                await next_one.until(HANDSHAKE)

    asyncio.run(run())


def test_pings_and_figures_come_while_nobody_speaks(serve):
    server = serve(limits=Limits(ping_s=0.2))

    async def run():
        async with joined(server.chat("format=pcm")) as client:
            await client.until(PING)
        async with joined(server.chat("format=pcm&stats=1")) as client:
            await client.until(METADATA)
            return client.metadata[-1]["stats"]

    figures = asyncio.run(run())
    assert set(figures) >= {"lag_ms", "step_ms", "dropped_silent", "dropped_spoken"}


def test_health_metrics_and_build_info(serve, question):
    server = serve()

    async def run():
        async with joined(server.chat()) as client:
            await client.converse(question[:5])

    asyncio.run(run())

    def get(path: str) -> str:
        with urllib.request.urlopen(server.url(path), timeout=PATIENCE_S) as answer:
            return answer.read().decode()

    assert json.loads(get("/health")) == {"status": "ok"}
    assert json.loads(get("/api/build_info"))["model"] == "demo"
    metrics = dict(
        line.rsplit(" ", 1)
        for line in get("/metrics").splitlines()
        if not line.startswith("#")
    )
    assert metrics['moshi_frames_total{direction="heard"}'] == "5"
    assert metrics['moshi_frames_total{direction="said"}'] == "5"
    assert metrics["moshi_step_seconds_count"] == "5"
    assert float(metrics["moshi_memory_bytes"]) > 1e6


def test_only_known_kinds_are_sent(serve, question):
    async def run():
        async with joined(serve().chat("format=pcm&stats=1")) as client:
            await client.converse(question[:20])
            await client.control(RESTART)
            await client.until(CONTROL)
            return set(client.kinds)

    assert asyncio.run(run()) == {HANDSHAKE, AUDIO, CONTROL, METADATA}


def test_more_conversations_than_the_memory_holds_are_refused(monkeypatch):
    thread = ModelThread()
    monkeypatch.setattr(memory, "machine_memory", lambda: 45_000_000)
    with pytest.raises(ConfigError, match=r"99 sessions of demo .* use --max-sessions"):
        load_batch(thread, lambda: moshi_mlx.load("demo"), 99)
    thread.close()
