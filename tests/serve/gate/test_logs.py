"""What clients make the server say is bounded, and tells no secret."""

import asyncio
import io
import logging

import pytest

from moshi_mlx.serve.gate.logs import Bounded, OneLine, log_lines, without_secrets


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def written(*calls) -> list[str]:
    stream, clock = io.StringIO(), Clock()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine())
    handler.addFilter(Bounded(clock))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    for call in calls:
        call(logger, clock)
    return stream.getvalue().splitlines()


def test_lines_of_one_kind_are_bounded_and_those_left_out_are_told():
    def storm(logger, _clock):
        for n in range(1000):
            logger.info("client %s did it again", n)

    def later(logger, clock):
        clock.now += 60
        logger.info("client %s did it again", "last")

    def other(logger, _clock):
        logger.info("something else")

    lines = written(storm, other, later)
    assert len(lines) == 22
    assert lines[20].endswith("something else")
    assert lines[21].endswith(
        "client last did it again (980 more like it were left out)"
    )


def test_tracebacks_are_rarer_and_shorter():
    def storm(logger, _clock):
        for _ in range(50):
            try:
                raise ValueError("x" * 10_000 + " token=hunter22")
            except ValueError:
                logger.exception("it failed")

    lines = written(storm)
    assert sum("it failed" in line for line in lines) == 3
    assert sum(map(len, lines)) < 15_000
    assert "hunter22" not in "".join(lines)
    body = len("\n".join(lines)) - sum(len(line) for line in lines if "failed" in line)
    assert 3 * 3900 < body < 3 * 4100, "the last 4,000 characters of each"


def test_a_traceback_is_written_again_after_a_minute():
    def storm(logger, clock):
        for second in range(3 + 62):
            clock.now = float(max(0, second - 3))
            try:
                raise ValueError("no")
            except ValueError:
                logger.exception("it failed")

    lines = [line for line in written(storm) if "it failed" in line]
    assert len(lines) == 4
    assert lines[3].endswith("it failed (60 more like it were left out)")


def test_lines_left_out_are_counted_from_one_line_to_the_next():
    def storm(logger, clock):
        for _ in range(23):
            logger.info("again")
        for second in (5, 10):
            clock.now = float(second)
            logger.info("again")

    lines = written(storm)
    assert len(lines) == 22
    assert lines[20].endswith("again (3 more like it were left out)")
    assert lines[21].endswith("again")


def test_only_so_many_kinds_are_remembered():
    bounded = Bounded(Clock())

    def passes(words: str) -> bool:
        return bounded.filter(logging.LogRecord("x", 20, "", 0, words, None, None))

    for _ in range(20):
        assert passes("first")
    assert not passes("first")
    for number in range(499):
        assert passes(f"another {number}")
    assert not passes("first"), "500 kinds are remembered"
    assert passes("one too many")
    assert passes("first"), "all were forgotten"


def test_kinds_are_told_apart_by_their_first_200_characters():
    def storm(logger, _clock):
        for n in range(30):
            logger.info("x" * 200 + str(n))
        for n in range(5):
            logger.info("x" * 199 + "yz"[n % 2])

    assert len(written(storm)) == 25


@pytest.mark.parametrize("verbose", [False, True])
def test_verbose_shows_the_servers_own_lines_alone(verbose, capsys):
    log_lines(verbose)
    logging.getLogger("moshi_mlx.serve").info("ours")
    logging.getLogger("moshi_mlx.serve").warning("a warning")
    logging.getLogger("uvicorn.error").info("theirs")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[-1] for line in lines] == ["ours"] * verbose + ["warning"]


@pytest.mark.parametrize(
    "text",
    [
        "GET /?token=hunter22&x=1",
        "/api/chat?worker_auth_id=hunter22",
        "auth_id=hunter22 and more",
        "{'authorization': 'Bearer hunter22'}",
        "authorization: basic hunter22",
        "Cookie: moshi_token=hunter22",
        "moshi_token=hunter22; Path=/",
        "kyutai-api-key: x api_key=hunter22",
    ],
)
def test_tokens_are_left_out(text):
    assert "hunter22" not in without_secrets(text)
    assert "..." in without_secrets(text)


def test_a_client_writes_no_line_of_its_own():
    lines = written(
        lambda logger, _: logger.info("words=%s", "a\nb\x1b[2J" + "c" * 5000)
    )
    assert len(lines) == 1
    words = lines[0].partition("words=")[2]
    assert words.startswith(r"a\nb\x1b[2J") and len(words) == 1000 - len("words=")


def test_a_refused_page_and_a_taken_port_are_no_errors(capsys):
    log_lines(verbose=False)
    logger = logging.getLogger("uvicorn.error")
    logger.error("ASGI callable returned without completing handshake.")
    logger.error(OSError("address in use"))
    logger.error("a real error")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_who_hangs_up_is_no_error_of_the_server(capsys):
    log_lines(verbose=True)
    for error in (ConnectionResetError("gone"), BrokenPipeError("gone")):
        logging.getLogger("asyncio").error("a task failed", exc_info=error)
        logging.getLogger("uvicorn.error").error(error)
    assert not capsys.readouterr().err
    logging.getLogger("asyncio").error("a task failed", exc_info=ValueError("new"))
    assert "ValueError: new" in capsys.readouterr().err


def test_an_answer_that_the_servers_end_cuts_off_is_no_error(capsys):
    log_lines(False)
    try:
        raise asyncio.CancelledError(
            "Task cancelled, timeout graceful shutdown exceeded"
        )
    except asyncio.CancelledError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    assert not capsys.readouterr().err


def test_lines_are_written_once_whoever_else_listens(capsys, caplog):
    for _ in range(2):
        log_lines(verbose=False)
    for name in ("moshi_mlx.serve", "uvicorn.error", "asyncio", "websockets.server"):
        logging.getLogger(name).warning("once")
    assert len(capsys.readouterr().err.splitlines()) == 4
    assert not caplog.records
