"""Long work shares the model thread: in turns, behind live frames, never in the way."""

import asyncio
import queue
import threading
from collections.abc import Iterator

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.engines.thread import ModelThread
from moshi_mlx.errors import MoshiError

WAIT = 120  # seconds: only ever used up by a test that fails


@pytest.fixture
def thread() -> Iterator[ModelThread]:
    thread = ModelThread()
    yield thread
    thread.close(WAIT)
    assert not thread.is_alive


class Gate:
    """Keeps the thread busy until it is opened."""

    def __init__(self, thread: ModelThread):
        self._open = threading.Event()
        thread.call(lambda: self._open.wait(WAIT))

    def open(self) -> None:
        self._open.set()


class Echo:
    def step(self, frame: np.ndarray) -> float:
        return float(frame[0])


def test_values_of_a_job_reach_the_callers_thread_in_order(thread: ModelThread):
    def work() -> Iterator[int]:
        total = mx.zeros(1)
        for i in range(20):
            total = total + i
            assert thread.is_current
            yield int(np.array(total)[0])

    expected = np.cumsum(np.arange(20)).tolist()
    assert list(thread.iterate(work)) == expected


def test_jobs_take_turns(thread: ModelThread):
    order: list[str] = []
    gate = Gate(thread)
    jobs = [
        thread.start_job(
            lambda: range(3), lambda i, name=name: order.append(f"{name}{i}")
        )
        for name in "abc"
    ]
    gate.open()
    for job in jobs:
        job.done.result(WAIT)
    assert order == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


def test_live_frames_overtake_a_job(thread: ModelThread):
    order: list[object] = []
    line = thread.open(Echo, lambda answer: order.append(answer.reply))

    def work() -> Iterator[str]:
        for i in range(4):
            if i == 1:  # while this step runs, three frames come
                for value in (1.0, 2.0, 3.0):
                    line.put(np.full(1920, value, np.float32))
            yield f"step {i}"

    job = thread.start_job(work, order.append)
    job.done.result(WAIT)
    assert order == ["step 0", "step 1", 1.0, 2.0, 3.0, "step 2", "step 3"]


def test_calls_that_are_not_live_take_turns_with_jobs(thread: ModelThread):
    order: list[str] = []
    gate = Gate(thread)
    job = thread.start_job(lambda: ["job 0", "job 1"], order.append)
    later = [
        thread.call(lambda i=i: order.append(f"later {i}"), live=False)
        for i in range(2)
    ]
    live = [thread.call(lambda i=i: order.append(f"live {i}")) for i in range(2)]
    gate.open()
    for future in [*live, *later, job.done]:
        future.result(WAIT)
    assert order[:2] == ["live 0", "live 1"]
    assert sorted(order[2:4]) == ["job 0", "later 0"]
    assert sorted(order[4:]) == ["job 1", "later 1"]


def test_a_job_rests_while_nobody_takes_what_it_made(thread: ModelThread):
    made: list[int] = []

    def work() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    values = thread.iterate(work, ahead=2)
    assert next(values) == 0
    for _ in range(5):
        thread.run(lambda: None)
    assert len(made) <= 4
    assert list(values) == list(range(1, 100))


def test_leaving_the_loop_ends_the_job_and_lets_it_clean_up(thread: ModelThread):
    cleaned: queue.Queue[bool] = queue.Queue()

    def work() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            cleaned.put(thread.is_current)

    for value in thread.iterate(work):
        if value == 3:
            break
    assert cleaned.get(timeout=WAIT)
    assert thread.run(lambda: 5) == 5


def test_an_error_of_a_job_is_its_callers(thread: ModelThread):
    def work() -> Iterator[int]:
        yield 1
        raise MoshiError("no further")

    values = thread.iterate(work)
    assert next(values) == 1
    with pytest.raises(MoshiError, match="no further"):
        next(values)
    assert thread.run(lambda: 5) == 5


def test_on_the_thread_itself_calls_and_jobs_run_directly(thread: ModelThread):
    def inside() -> list[int]:
        return [thread.run(lambda: 7), *thread.iterate(lambda: range(3))]

    assert thread.run(inside) == [7, 0, 1, 2]


def test_asyncio_awaits_calls_and_iterates_over_jobs(thread: ModelThread):
    async def count(n: int) -> list[int]:
        first = await thread.arun(lambda: n)
        return [first] + [value async for value in thread.aiterate(lambda: range(n))]

    async def both() -> list[list[int]]:
        return list(await asyncio.gather(count(3), count(40)))

    assert asyncio.run(both()) == [[3, *range(3)], [40, *range(40)]]


def test_a_cancelled_task_of_asyncio_ends_its_job(thread: ModelThread):
    cleaned: queue.Queue[bool] = queue.Queue()

    def work() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            cleaned.put(True)

    async def endless() -> None:
        async for _ in thread.aiterate(work):
            pass

    async def run() -> None:
        task = asyncio.ensure_future(endless())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert cleaned.get(timeout=WAIT)


@pytest.mark.parametrize("use_asyncio", [False, True])
def test_a_line_that_pushes_back_loses_nothing(thread: ModelThread, use_asyncio: bool):
    heard: list[float] = []
    line = thread.open(
        Echo, lambda answer: heard.append(answer.reply), limit_ms=240, full="wait"
    )
    frames = [np.full(1920, i, np.float32) for i in range(50)]

    async def send() -> None:
        for frame in frames:
            await line.aput(frame)

    if use_asyncio:
        asyncio.run(send())
    else:
        for frame in frames:
            line.put(frame)
    while line.waiting_ms:
        thread.run(lambda: None)
    thread.run(lambda: None)
    assert heard == list(range(50))


def test_closing_a_line_frees_whoever_waits_for_room(thread: ModelThread):
    line = thread.open(Echo, lambda _: None, limit_ms=80, full="wait")
    gate = Gate(thread)
    line.put(np.zeros(1920, np.float32))
    waiting = threading.Thread(target=line.put, args=[np.zeros(1920, np.float32)])
    waiting.start()
    line.close()
    waiting.join(WAIT)
    assert not waiting.is_alive()
    gate.open()


def test_closing_the_thread_tells_those_who_wait_for_a_job():
    thread = ModelThread()
    values = thread.iterate(lambda: iter(int, 1), ahead=1)  # endless
    assert next(values) == 0
    thread.close(WAIT)
    with pytest.raises(MoshiError, match="closed"):
        list(values)
