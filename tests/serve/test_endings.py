"""A server ends in good order by every signal that asks for it, and by no other."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from moshi_mlx.serve.endings import signals_to

ENDINGS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def raised() -> Iterator[list[int]]:
    """Signals that came through to the process's own handlers."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in ENDINGS
    }
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


def sent(numbers: list[signal.Signals]) -> list[int]:
    """Which of these signals ended what ran."""
    ended: list[int] = []
    with signals_to(lambda number, _: ended.append(number)):
        for number in numbers:
            os.kill(os.getpid(), number)
    return ended


def test_signals_that_end_a_server_end_the_process_afterwards(raised):
    assert sent(ENDINGS) == ENDINGS
    assert raised == ENDINGS[::-1]
    os.kill(os.getpid(), signal.SIGTERM)
    assert raised[3:] == [signal.SIGTERM]  # the handlers from before are back


@pytest.mark.parametrize("ignored", ENDINGS)
def test_a_signal_that_was_ignored_stays_ignored(raised, ignored):
    signal.signal(ignored, signal.SIG_IGN)
    others = [number for number in ENDINGS if number != ignored]
    assert sent(ENDINGS) == others and raised == others[::-1]
    assert signal.getsignal(ignored) is signal.SIG_IGN


def test_a_server_in_another_thread_hears_no_signals(raised):
    def use() -> None:
        with signals_to(lambda *_: None):
            assert {signal.getsignal(n) for n in ENDINGS} == before

    before = {signal.getsignal(number) for number in ENDINGS}
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert {signal.getsignal(n) for n in ENDINGS} == before and not raised
