"""The head of a request is bounded and understood, or refused with the reason."""

import random

import pytest

from moshi_mlx.serve.gate.head import (
    MAX_HEAD,
    MAX_HEADERS,
    MAX_LINE,
    BadRequest,
    read_head,
)

GET = b"GET /a?b HTTP/1.1\r\nHost: localhost\r\n"
UPGRADE = GET + b"Upgrade: WebSocket\r\nConnection: Upgrade\r\n"


def test_a_head_is_read_up_to_its_empty_line():
    head = read_head(GET + b"\r\nGET /next")
    assert head is not None
    assert (head.size, head.upgrade, head.length) == (len(GET) + 2, False, 0)
    assert read_head(GET) is None and read_head(b"") is None


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_lines_may_end_either_way(end):
    head = read_head(UPGRADE.replace(b"\r\n", end) + end + b"rest")
    assert head is not None and head.upgrade


@pytest.mark.parametrize(
    "header, length",
    [(b"Content-Length: 12", 12), (b"Transfer-Encoding: chunked", None), (b"X: y", 0)],
)
def test_the_body_s_length_is_known(header, length):
    head = read_head(b"POST / HTTP/1.1\r\n" + header + b"\r\n\r\n")
    assert head is not None and head.length == length


def test_addresses_of_proxies_come_in_order():
    lines = b"X-Forwarded-For: 1.2.3.4, 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2\r\n"
    head = read_head(GET + lines + b"\r\n")
    assert head is not None and head.forwarded == ["1.2.3.4", "10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize(
    "data, words",
    [
        (b"GET /?" + b"x" * MAX_LINE + b" HTTP/1.1\r\n\r\n", "a line has at most"),
        (b"GET /?" + b"x" * MAX_LINE, "a line has at most"),
        (UPGRADE + b"X: " + b"x" * MAX_LINE + b"\r\n\r\n", "a line has at most"),
        (GET + b"X: 1\r\n" * MAX_HEADERS + b"\r\n", "at most 100 headers"),
        (GET + b"X: " + b"x\r\nY: " * MAX_HEAD, "at most 16384 bytes"),
        (UPGRADE + b"Content-Length: 1\r\n\r\n", "has no body"),
        (UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n", "has no body"),
        (UPGRADE.replace(b"GET", b"POST") + b"\r\n", "asked for with GET"),
        (UPGRADE.replace(b"GET", b"DELETE") + b"\r\n", "asked for with GET"),
        (UPGRADE.replace(b"1.1", b"1.0") + b"\r\n", r"HTTP/1\.1"),
        (b"\n\nGET", "no HTTP request"),
        (b"GET / HTTP/2.0\r\n\r\n", "no HTTP request"),
        (b"\x16\x03\x01\x02\0\r\n\r\n", "no HTTP request"),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", "no HTTP request"),
        (GET + b"no colon\r\n\r\n", "a header is damaged"),
        (GET + b"X : 1\r\n\r\n", "a header is damaged"),
        (GET + b" X: folded\r\n\r\n", "a header is damaged"),
        (GET + b"X: \0\r\n\r\n", "a header is damaged"),
        (GET + b"Content-Length: -1\r\n\r\n", "content-length is damaged"),
        (GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "is damaged"),
        (GET + b"Transfer-Encoding: gzip\r\n\r\n", "in chunks, or with"),
        (
            GET + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            "in chunks, or with",
        ),
    ],
)
def test_what_is_no_request_of_ours_is_refused_with_its_reason(data, words):
    with pytest.raises(BadRequest, match=words) as caught:
        read_head(data)
    assert caught.value.status == 400


def test_a_head_of_the_largest_size_passes():
    assert (MAX_HEAD, MAX_LINE, MAX_HEADERS) == (16_384, 8000, 100)
    lines = b"".join(b"X-%d: 1\r\n" % n for n in range(MAX_HEADERS - 1))
    head = read_head(GET + lines + b"\r\n")
    assert head is not None
    long = b"GET /" + b"x" * (MAX_LINE - 14) + b" HTTP/1.1\r\n\r\n"
    assert read_head(long) is not None


def test_any_bytes_are_read_or_refused():
    rng = random.Random(0)
    for _ in range(2000):
        data = bytearray(UPGRADE + b"Content-Length: 0\r\n\r\n")
        for _ in range(rng.randrange(6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            read_head(data)
        except BadRequest:
            continue
