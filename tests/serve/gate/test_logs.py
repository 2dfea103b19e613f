"""What clients make the server say is bounded, and tells no secret."""

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
    assert r"a\nb\x1b[2J" in lines[0] and len(lines[0]) < 1100


def test_a_refused_page_and_a_taken_port_are_no_errors(capsys):
    log_lines(verbose=False)
    logger = logging.getLogger("uvicorn.error")
    logger.error("ASGI callable returned without completing handshake.")
    logger.error(OSError("address in use"))
    logger.error("a real error")
    assert len(capsys.readouterr().err.splitlines()) == 1
