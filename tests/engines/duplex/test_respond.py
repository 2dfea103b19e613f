"""A recording answered by a function, and by a loop of one's own; from any thread."""

import asyncio
import json
import queue
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.audio import FRAME, files, frames, read
from moshi_mlx.checkpoint.kinds import EndRule
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.engines.duplex.reply import Reply
from moshi_mlx.errors import AudioError, ConfigError
from tests.questions import QUESTIONS
from tests.recogniser import hear

GREEDY: dict[str, Any] = {"temp": 0, "temp_text": 0}
QUESTION = QUESTIONS[0]


@pytest.fixture(scope="module")
def moshi() -> Moshi:
    return moshi_mlx.load("demo")


@pytest.fixture(scope="module")
def expected(moshi) -> list[int]:
    """Text tokens of the first frames of an answer, on one thread."""
    session = moshi.session(**GREEDY)
    return [session.step(frame).text_token for frame in first_frames()]


def first_frames() -> list[np.ndarray]:
    return [frame for frame, _ in zip(frames(QUESTION.path), range(3), strict=False)]


def test_the_whole_answer_is_a_function(moshi, tmp_path):
    seconds: list[float] = []
    said: list[str] = []
    named = ("out.wav", "talk.wav", "report.html", "words.srt")
    out, talk, report, words = (tmp_path / name for name in named)
    response = moshi.respond(
        str(QUESTION.path),
        out,
        recording=talk,
        report=report,
        words=words,
        on_progress=seconds.append,
        on_reply=lambda reply: said.append(reply.text),
        **GREEDY,
    )
    assert response.text == QUESTION.answer == "".join(said).strip()
    assert " ".join(word.text for word in response.words) == QUESTION.answer
    assert seconds == sorted(seconds) and seconds[-1] == response.seconds
    response.save(tmp_path / "reply.wav")
    assert (tmp_path / "reply.wav").read_bytes() == out.read_bytes()
    assert hear(files.read(out)[0]) == QUESTION.answer
    assert files.read(talk, mono=False).shape == response.both.shape
    assert json.loads(talk.with_suffix(".json").read_text())["input"].endswith(".wav")
    assert f"answers {QUESTION.path.name}" in report.read_text()
    assert QUESTION.answer.split()[0] in words.read_text()
    found = response.to_dict()
    assert found["text"] == QUESTION.answer and found["frames"] == response.frames
    assert QUESTION.answer in repr(response)
    for subtitles in (response.to_srt(), response.to_vtt()):
        assert QUESTION.answer.split()[-1] in subtitles and " --> " in subtitles


def test_samples_of_any_rate_and_kind_are_answered(moshi):
    pcm = read(QUESTION.path)[0]
    whole = (pcm * 32767).round().astype(np.int16)
    assert moshi.respond(whole, **GREEDY).text == QUESTION.answer
    twice = np.repeat(pcm, 2)
    assert moshi.respond(twice, sample_rate=48_000, **GREEDY).text == QUESTION.answer


def test_a_lead_in_is_heard_and_left_out_of_sound_and_times(moshi, tmp_path):
    ending = EndRule(before_s=0.6)
    led = Moshi(moshi.info, moshi.lm, moshi.tokenizer, moshi.make_codec, moshi.owner)
    led.kind = replace(moshi.kind, ending=ending)
    response = led.responding(QUESTION.path, **GREEDY)
    first = next(iter(response))
    np.testing.assert_array_equal(first.heard, first_frames()[0])
    assert (response.frames, response.session.steps) == (1, 1 + round(0.6 * 12.5))
    response.report(tmp_path / "led.html")
    assert "0.6 s" in (tmp_path / "led.html").read_text()


def test_a_loop_of_ones_own_ends_with_flush(moshi):
    session = moshi.session(**GREEDY)
    text = "".join(session.step(frame).text for frame in frames(QUESTION.path))
    text += "".join(reply.text for reply in session.flush())
    assert text.strip() == QUESTION.answer


def test_asyncio_has_the_same_answer(moshi):
    async def run() -> tuple[str, str]:
        async with moshi.session(**GREEDY) as session:
            text = ""
            for frame in frames(QUESTION.path):
                text += (await session.astep(frame)).text
            async for reply in session.aflush():
                text += reply.text
        return text.strip(), (await moshi.arespond(QUESTION.path, **GREEDY)).text

    assert asyncio.run(run()) == (QUESTION.answer, QUESTION.answer)


def test_an_answer_that_nobody_waits_for_any_more_ends_with_its_frame(moshi):
    told: queue.Queue[Reply] = queue.Queue()

    async def run() -> None:
        answering = asyncio.ensure_future(
            moshi.arespond(QUESTION.path, on_reply=told.put, **GREEDY)
        )
        await asyncio.to_thread(told.get, timeout=60)
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)

    asyncio.run(run())  # its end waits for the thread that answers
    assert told.qsize() < 10


def test_two_hundred_sessions_on_pools_and_tasks_say_what_one_says(moshi, expected):
    """Made, stepped and closed on whichever thread comes, four at a time."""

    def converse(_: int) -> list[int]:
        with moshi.session(**GREEDY) as session:
            return [session.step(frame).text_token for frame in first_frames()]

    async def in_threads(count: int) -> list[list[int]]:
        session = moshi.session(**GREEDY)  # each step on another thread
        said = [
            (await asyncio.to_thread(session.step, frame)).text_token
            for frame in first_frames()
        ]
        others = [asyncio.to_thread(converse, i) for i in range(count - 1)]
        return [said, *await asyncio.gather(*others)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(converse, range(100)))
    found += asyncio.run(in_threads(100))
    assert len(found) == 200
    assert all(tokens == expected for tokens in found)


def test_live_frames_go_before_a_file(moshi):
    """While a file is answered, a live step waits for one of its steps at most."""
    order: queue.Queue[str] = queue.Queue()
    live = moshi.session(**GREEDY, first="silence")
    live.step(np.zeros(FRAME, np.float32))

    def answer() -> None:
        moshi.respond(QUESTION.path, on_reply=lambda _: order.put("file"), **GREEDY)

    thread = threading.Thread(target=answer)
    thread.start()
    order.get(timeout=120)
    for _ in range(20):
        before = order.qsize()
        live.step(np.zeros(FRAME, np.float32))
        assert order.qsize() - before <= 3
    thread.join(120)
    assert not thread.is_alive()


def test_a_closed_session_and_a_closed_model_say_so(moshi):
    session = moshi.session()
    session.close()
    session.close()  # again changes nothing
    with pytest.raises(ConfigError, match=r"session\.step: this Duplex"):
        session.step(np.zeros(FRAME, np.float32))
    other = moshi_mlx.load("demo")
    running = other.session(**GREEDY)
    other.close()
    assert "closed" in repr(other) and "closed" in repr(session)
    with pytest.raises(ConfigError, match=r"moshi.session: this Moshi is closed"):
        other.session()
    assert running.step(np.zeros(FRAME, np.float32)).text_token >= 0


def test_reprs_tell_model_size_bits_and_state(moshi):
    assert "demo" in repr(moshi) and "bits" in repr(moshi) and "GB" in repr(moshi)
    session = moshi.session(seed=7)
    session.step(np.zeros(FRAME, np.float32))
    assert repr(session) == "<DuplexSession of demo: 1 frames heard, seed 7>"
    batch = moshi.batch(2)
    session = batch.open()  # while somebody holds it
    assert repr(batch) == "<Batch of demo: 1 of 2 rows taken>"


def test_errors_name_the_function_and_what_to_do(moshi):
    with pytest.raises(AudioError, match=r"moshi.respond got .*sound\[0\]"):
        moshi.respond(np.zeros((1, 9), np.float32))
    with pytest.raises(ConfigError, match=r"session.step got .*\(take frame\[0\]\)"):
        moshi.session().step(np.zeros((1, FRAME), np.float32))
    with pytest.raises(AudioError, match=r"moshi.respond got 3.5: give a sound file"):
        moshi.respond(3.5)
    with pytest.raises(ConfigError, match="a batch of 0 rows"):
        moshi.batch(0)
    response = moshi.responding(QUESTION.path, keep_sound=False)
    with pytest.raises(AudioError, match="keep_sound=True"):
        _ = response.pcm
    with pytest.raises(AudioError, match="keep_sound=True"):
        response.write(report="reply.html")


ENDINGS = {
    "worker": "t = threading.Thread(target=talk); t.start(); t.join()",
    "session left open": "s = moshi_mlx.load('demo').session(); s.step(SILENT)",
    "model closed first": (
        "m = moshi_mlx.load('demo'); s = m.session(); s.step(SILENT); m.close(); "
        "s.step(SILENT); s.close()"
    ),
    "thread closed first": (
        "from moshi_mlx.engines.owner import model_thread; m = moshi_mlx.load('demo'); "
        "s = m.session(); s.step(SILENT); model_thread().close(); s.close(); m.close()"
    ),
    "daemon in a step": (
        "threading.Thread(target=quietly(talk), daemon=True).start(); time.sleep(1.0)"
    ),
}
PROGRAM = """
import threading, time
import numpy as np, moshi_mlx
SILENT = np.zeros(1920, np.float32)

def talk():
    session = moshi_mlx.load("demo").session(seed=1)
    for _ in range(10):
        session.step(SILENT)

def quietly(function):
    def run():
        try:
            function()
        except moshi_mlx.errors.MoshiError:
            pass
    return run
"""


@pytest.mark.parametrize("name", ENDINGS)
def test_programs_end_well_in_every_order_of_closing(name):
    code = f"{PROGRAM}\nimport moshi_mlx.errors\n{ENDINGS[name]}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
