"""One thread owns the model: work gets there, answers and errors come back."""

import queue
import subprocess
import sys
import threading
from collections.abc import Iterator

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.audio import FRAME
from moshi_mlx.engines.line import Answer
from moshi_mlx.engines.thread import ModelThread
from moshi_mlx.errors import MoshiError

WAIT = 120  # seconds: only ever used up by a test that fails


class Model:
    """A model whose arrays, as MLX's, may be evaluated on its own thread only."""

    def __init__(self) -> None:
        self.weight = mx.random.normal((4, 4)) * 2.0  # lazy: bound to this thread
        self.thread = threading.current_thread()

    def session(self) -> "Doubler":
        return Doubler(self)


class Doubler:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.heard = 0

    def step(self, frame: np.ndarray) -> tuple[int, float]:
        mx.eval(self.model.weight @ self.model.weight)
        if frame[0] < 0:
            raise ValueError("a frame that the session cannot stand")
        self.heard += 1
        return self.heard, float(frame[0]) * 2


def frame(value: float) -> np.ndarray:
    return np.full(FRAME, value, np.float32)


@pytest.fixture
def thread() -> Iterator[ModelThread]:
    thread = ModelThread()
    yield thread
    thread.close(WAIT)
    assert not thread.is_alive


@pytest.fixture
def model(thread: ModelThread) -> Model:
    return thread.run(Model)


def test_frames_go_in_and_answers_come_back_in_order(thread: ModelThread, model: Model):
    answers: queue.Queue[Answer] = queue.Queue()
    line = thread.open(model.session, answers.put)
    for value in (1.0, 2.0, 3.0):
        line.put(frame(value))
        answer = answers.get(timeout=WAIT)
        assert answer.reply == (value, 2 * value)
        assert answer.frame[0] == value
        assert answer.heard_at <= answer.began_at <= answer.done_at
        assert answer.lag_s >= answer.step_s >= 0
        assert answer.dropped.total == 0


def test_the_sender_may_use_its_buffer_again_at_once(thread: ModelThread, model: Model):
    answers: queue.Queue[Answer] = queue.Queue()
    line = thread.open(model.session, answers.put)
    buffer = frame(1.0)
    blocker = threading.Event()
    thread.call(lambda: blocker.wait(WAIT))
    line.put(buffer)
    buffer[:] = 9.0
    blocker.set()
    assert answers.get(timeout=WAIT).reply == (1, 2.0)


def test_everything_runs_on_the_models_thread(thread: ModelThread, model: Model):
    seen: queue.Queue[threading.Thread] = queue.Queue()
    line = thread.open(model.session, lambda _: seen.put(threading.current_thread()))
    line.put(frame(1.0))
    assert seen.get(timeout=WAIT) is model.thread
    assert thread.run(threading.current_thread) is model.thread


def test_an_error_of_loading_reaches_who_waits_for_it(thread: ModelThread):
    def load() -> Model:
        raise MoshiError("no such model")

    with pytest.raises(MoshiError, match="no such model"):
        thread.run(load)


def test_a_closed_thread_refuses_work_in_words(thread: ModelThread):
    thread.close(WAIT)
    with pytest.raises(MoshiError, match="closed"):
        thread.run(Model)
    with pytest.raises(MoshiError, match="closed"):
        thread.open(Model, print)  # type: ignore[arg-type]
    with pytest.raises(MoshiError, match="closed"):
        list(thread.iterate(lambda: [1]))


def test_a_thread_that_fails_refuses_what_waits_and_says_why(caplog):
    thread = ModelThread()
    let_go = threading.Event()
    thread.call(lambda: let_go.wait(WAIT))
    thread._lines.take = lambda: 1 / 0  # type: ignore[method-assign, return-value]
    waiting = thread.call(lambda: "never")
    let_go.set()
    with pytest.raises(MoshiError, match="closed"):
        waiting.result(WAIT)
    with pytest.raises(MoshiError, match="closed"):
        thread.run(lambda: "later")
    assert "failed" in caplog.text and "ZeroDivisionError" in caplog.text


def test_an_error_ends_its_own_conversation_only(thread: ModelThread, model: Model):
    errors: queue.Queue[Exception] = queue.Queue()
    answers: queue.Queue[Answer] = queue.Queue()
    bad = thread.open(model.session, answers.put, errors.put)
    good = thread.open(model.session, answers.put, errors.put)
    bad.put(frame(-1.0))
    assert "cannot stand" in str(errors.get(timeout=WAIT))
    bad.put(frame(1.0))  # vanishes: the line is closed
    good.put(frame(5.0))
    assert answers.get(timeout=WAIT).reply == (1, 10.0)
    assert answers.empty() and errors.empty()


def test_a_session_that_cannot_be_made_is_an_error_of_its_line(
    thread: ModelThread, model: Model
):
    def make() -> Doubler:
        raise MoshiError("no voice of that name")

    errors: queue.Queue[Exception] = queue.Queue()
    line = thread.open(make, print, errors.put)
    line.put(frame(1.0))
    assert "no voice" in str(errors.get(timeout=WAIT))


def test_a_reader_that_fails_closes_its_line(thread: ModelThread, model: Model):
    def fail(answer: Answer) -> None:
        raise OSError("the client has gone")

    errors: queue.Queue[Exception] = queue.Queue()
    line = thread.open(model.session, fail, errors.put)
    line.put(frame(1.0))
    assert "has gone" in str(errors.get(timeout=WAIT))


def test_conversations_do_not_touch_and_take_turns(thread: ModelThread, model: Model):
    order: queue.Queue[tuple[str, tuple[int, float]]] = queue.Queue()
    first = thread.open(model.session, lambda a: order.put(("first", a.reply)))
    second = thread.open(model.session, lambda a: order.put(("second", a.reply)))
    blocker = threading.Event()
    thread.call(lambda: blocker.wait(WAIT))
    for value in (1.0, 2.0):
        first.put(frame(value))
    second.put(frame(7.0))
    blocker.set()
    got = [order.get(timeout=WAIT) for _ in range(3)]
    assert got == [("first", (1, 2.0)), ("second", (1, 14.0)), ("first", (2, 4.0))]


def test_frames_that_come_too_fast_are_dropped_and_counted(
    thread: ModelThread, model: Model
):
    answers: queue.Queue[Answer] = queue.Queue()
    line = thread.open(model.session, answers.put, limit_ms=240)
    blocker = threading.Event()
    thread.call(lambda: blocker.wait(WAIT))
    for value in range(1, 9):
        line.put(frame(value))
        assert line.waiting_ms <= 240
    blocker.set()
    kept = [answers.get(timeout=WAIT) for _ in range(3)]
    assert [a.frame[0] for a in kept] == [6, 7, 8]
    assert kept[-1].dropped.spoken == 5


def test_a_restart_forgets_the_conversation_and_what_waits(
    thread: ModelThread, model: Model
):
    answers: queue.Queue[Answer] = queue.Queue()
    line = thread.open(model.session, answers.put)
    line.put(frame(1.0))
    answers.get(timeout=WAIT)
    line.restart().result(WAIT)
    line.put(frame(4.0))
    assert answers.get(timeout=WAIT).reply == (1, 8.0)


def test_sessions_may_be_stepped_together(thread: ModelThread, model: Model):
    sizes: list[int] = []

    def step_all(sessions, frames):
        sizes.append(len(sessions))
        return [s.step(f) for s, f in zip(sessions, frames, strict=True)]

    answers: queue.Queue[Answer] = queue.Queue()
    lines = [
        thread.open(model.session, answers.put, together=step_all) for _ in range(3)
    ]
    alone = thread.open(model.session, answers.put)
    blocker = threading.Event()
    thread.call(lambda: blocker.wait(WAIT))
    for line in [*lines, alone]:
        line.put(frame(1.0))
    blocker.set()
    for _ in [*lines, alone]:
        assert answers.get(timeout=WAIT).reply == (1, 2.0)
    assert sizes == [3]


def test_it_works_for_nobody_while_a_conversation_is_open_and_silent(
    thread: ModelThread, model: Model
):
    ran: queue.Queue[str] = queue.Queue()
    stop = thread.when_idle(lambda: ran.put(threading.current_thread().name), 0.02)
    with pytest.raises(queue.Empty):
        ran.get(timeout=0.2)  # nobody is there
    line = thread.open(model.session, lambda _: None)
    assert ran.get(timeout=WAIT) == ran.get(timeout=WAIT) == "moshi-model"
    stop()
    thread.run(lambda: None)  # what was running has ended
    while not ran.empty():
        ran.get()
    with pytest.raises(queue.Empty):
        ran.get(timeout=0.2)
    line.close()


def test_idle_work_that_fails_is_left_out(thread: ModelThread, model: Model, caplog):
    ran: queue.Queue[int] = queue.Queue()

    def fail() -> None:
        ran.put(1)
        raise ValueError("a scratch frame that cannot be computed")

    thread.when_idle(fail, 0.02)
    line = thread.open(model.session, lambda _: None)
    ran.get(timeout=WAIT)
    with pytest.raises(queue.Empty):
        ran.get(timeout=0.2)
    assert "is left out" in caplog.text
    assert thread.run(lambda: 3) == 3
    line.close()


def test_closing_ends_waiting_work_with_an_error_and_not_with_silence():
    thread = ModelThread()
    started, blocker = threading.Event(), threading.Event()
    running = thread.call(lambda: (started.set(), blocker.wait(WAIT))[1])
    waiting = thread.call(lambda: 1)
    assert started.wait(WAIT)
    closer = threading.Thread(target=thread.close, args=(WAIT,))
    closer.start()
    while not thread.closing:
        started.wait(0.01)
    blocker.set()
    closer.join(WAIT)
    assert running.result(WAIT) is True
    with pytest.raises(MoshiError, match="closed"):
        waiting.result(WAIT)
    assert not thread.is_alive


def test_an_error_of_a_task_goes_to_its_caller(thread: ModelThread, model: Model):
    def fail() -> None:
        raise MoshiError("not like this")

    with pytest.raises(MoshiError, match="not like this"):
        thread.call(fail).result(WAIT)
    assert thread.call(lambda: 3).result(WAIT) == 3


PROGRAM = """
import threading
import mlx.core as mx
import numpy as np
from moshi_mlx.engines.thread import ModelThread

thread = ModelThread()
weight = thread.run(lambda: mx.random.normal((64, 64)))
thread.run(lambda: mx.eval(weight @ weight))
"""


FAILING = """
import mlx.core as mx
from moshi_mlx.engines.thread import ModelThread

def load():
    mx.eval(mx.random.normal((64, 64)))
    raise OSError("no such model")

ModelThread().run(load)
"""


def test_a_program_whose_model_cannot_be_loaded_ends_with_the_error():
    for _ in range(6):
        done = subprocess.run(
            [sys.executable, "-c", FAILING], capture_output=True, text=True
        )
        assert done.returncode == 1, done.stderr
        assert "no such model" in done.stderr


def test_a_program_ends_well_whether_or_not_it_closes_its_model():
    # MLX's own threads aborted it at exit, one time in five.
    for _ in range(6):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
