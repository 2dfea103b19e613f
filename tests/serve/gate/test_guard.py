"""The guard by itself: every wrong token, host and origin, without a server around."""

import asyncio
import base64
import socket
from http.cookies import SimpleCookie
from typing import Any

import pytest

from moshi_mlx.errors import ConfigError
from moshi_mlx.serve.gate.guard import Guard
from moshi_mlx.serve.gate.security import (
    COOKIE,
    MIN_TOKEN,
    Policy,
    is_local,
    new_token,
)
from tests.serve.gate.guarded import TOKEN, Answer, asked


def basic(password: str, user: str = "anybody") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("name", ["token", "worker_auth_id"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_the_token_opens_in_the_address(name, kind):
    answer = asked(Policy(token=TOKEN), f"x=1&{name}=correct+horse", kind=kind)
    assert answer.passed


KEYS: list[dict[str, Any]] = [
    {"query": "auth_id={key}"},
    {"kyutai_api_key": "{key}"},
    {"x_api_key": "{key}"},
    {"authorization": "Bearer {key}"},
    {"sec_websocket_protocol": "realtime, openai-insecure-api-key.{key}"},
]


@pytest.mark.parametrize("way", KEYS)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_programs_show_their_key_in_any_of_five_places(way, kind):
    policy = Policy(token="a-secret-word")
    for key, passes in (("a-secret-word", True), ("a-secret-wore", False)):
        given = {name: value.format(key=key) for name, value in way.items()}
        answer = asked(policy, kind=kind, **given)
        assert answer.passed is passes
        if passes and "authorization" not in way:
            assert "set-cookie" not in answer.headers


WRONG = [
    *("", "c", "correct hors", "correct horsf", "dorrect horse", "correct horse "),
    *("correct_horse", "Correct horse", "correct horse horse", "cccccccccccccc", "é"),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_no_other_token_opens_however_it_is_shown(wrong):
    policy = Policy(token=TOKEN)
    cookie = f"{COOKIE}={wrong.strip() or 'x'}"
    shown: list[dict[str, Any]] = [
        {"query": f"token={wrong}"},
        {"query": f"worker_auth_id={wrong}"},
        {"authorization": basic(wrong)},
        {"authorization": basic("x", user=TOKEN)},
        {"cookie": cookie},
    ]
    if wrong != "correct horse ":  # spaces around a header's value are none of it
        shown.append({"authorization": f"Bearer {wrong}"})
    for way in shown:
        answer = asked(policy, **way)
        assert (answer.passed, answer.status) == (False, 401), way


def test_a_cookie_that_differs_in_a_letter_or_in_its_length_opens_nothing():
    policy = Policy(token=TOKEN)
    good = policy.cookie
    other = "0" if good[-1] != "0" else "1"
    assert asked(policy, cookie=f"{COOKIE}={good}").passed
    assert not asked(policy, cookie=f"{COOKIE}={good[:-1]}{other}").passed
    assert not asked(policy, cookie=f"{COOKIE}={other}{good[1:]}").passed
    assert not asked(policy, cookie=f"{COOKIE}={good[:-1]}").passed
    assert not asked(policy, cookie=f"{COOKIE}={good}x").passed
    assert not asked(policy, cookie=f"{COOKIE}={good[0]}").passed
    assert not asked(policy, cookie=f"other={good}").passed
    for broken in ("a=\x01; =;;", "a/b=1; c=2", "(x)=1"):
        assert asked(policy, cookie=broken).status == 401
    assert Policy(token="correct horsf").cookie != good


@pytest.mark.parametrize(
    "header",
    [f"Bearer {TOKEN}", f"bearer  {TOKEN} ", basic(TOKEN), basic(TOKEN, "")],
)
def test_the_token_opens_in_a_header(header):
    answer = asked(Policy(token=TOKEN), authorization=header)
    assert answer.passed
    cookie = SimpleCookie(answer.headers["set-cookie"])[COOKIE]
    assert cookie.value == Policy(token=TOKEN).cookie
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == (
        "/",
        True,
        "Strict",
    )
    assert not cookie["secure"]


@pytest.mark.parametrize(
    "header",
    [
        *(basic(TOKEN).replace("Basic", kind) for kind in ("Digest", "AWS", "")),
        *("Digest x", "Basic ====", "Basic /w==", "Basic", f"Token {TOKEN}", TOKEN),
    ],
)
def test_other_headers_open_nothing(header):
    assert not asked(Policy(token=TOKEN), authorization=header).passed


def test_a_cookie_of_https_stays_there():
    answer = asked(Policy(token=TOKEN), "token=correct+horse", scheme="https")
    assert answer.headers["set-cookie"].endswith("; Secure")


def test_a_websocket_and_a_kept_cookie_set_none():
    policy = Policy(token=TOKEN)
    kept = asked(policy, cookie=f"{COOKIE}={policy.cookie}")
    assert kept.passed and "set-cookie" not in kept.headers
    assert "set-cookie" not in asked(Policy()).headers


def test_health_needs_no_token_and_nothing_near_it_is_open():
    policy = Policy(token=TOKEN)
    assert asked(policy, path="/health").passed
    for path in ("/health/", "/healthz", "/metrics", "/api/chat", "//health"):
        assert asked(policy, path=path).status == 401


def test_a_refusal_says_why_and_how_to_show_the_token():
    answer = asked(Policy(token=TOKEN))
    assert answer.headers["www-authenticate"].startswith('Basic realm="Moshi"')
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["content-type"].startswith("text/plain")
    assert b"needs its token" in answer.sent[1]["body"]
    refused = asked(Policy(), host="evil.example")
    assert "www-authenticate" not in refused.headers


def test_a_websocket_is_refused_before_it_is_one():
    answer = asked(Policy(), kind="websocket", origin="http://evil.example")
    assert not answer.passed
    assert [m["type"] for m in answer.sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert answer.status == 403
    old = asked(Policy(), kind="websocket", origin="http://evil.example", extensions=())
    assert old.sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    "host, passes",
    [
        ("localhost", True),
        ("LocalHost:1", True),
        ("localhost.", True),
        ("127.0.0.1:8998", True),
        ("[::1]:8998", True),
        ("192.168.1.7", True),
        ("[fe80::1]", True),
        ("", False),
        ("localhost:", False),
        ("localhost:123456", False),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("256.0.0.1", False),
        ("localhost/x", False),
        ("user@localhost", False),
        ("a" * 254, False),
    ],
)
def test_hosts(host, passes):
    answer = asked(Policy(), host=host)
    assert answer.passed is passes
    assert passes or answer.status == 403


@pytest.mark.parametrize(
    "origin, passes",
    [
        ("http://localhost:8998", True),
        ("https://LOCALHOST:8998", True),
        ("https://friend.example", True),
        ("http://friend.example", False),
        ("https://friend.example:444", False),
        ("http://localhost", False),
        ("http://localhost:89980", False),
        ("http://localhost:8998.evil.example", False),
        ("ftp://localhost:8998", False),
        ("null", False),
        ("", False),
    ],
)
def test_origins(origin, passes):
    policy = Policy(origins=["https://friend.example/"])
    assert asked(policy, origin=origin).passed is passes
    assert asked(policy, kind="websocket", origin=origin).passed is passes


def test_what_the_application_says_of_itself_stays():
    answer = asked(Policy())
    assert answer.headers["cache-control"] == "max-age=60"
    assert answer.headers["connection"] == "close"
    assert "wss://localhost:8998" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("hosts", [[], [b"localhost", b"evil.example"]])
def test_a_request_names_one_host(hosts):
    answer = Answer()

    async def app(*_: Any) -> None:
        answer.passed = True

    async def send(message: Any) -> None:
        answer.sent.append(message)

    scope = {
        "type": "http",
        "path": "/",
        "query_string": b"",
        "headers": [(b"host", host) for host in hosts],
    }
    asyncio.run(Guard(app, Policy())(scope, None, send))  # type: ignore[arg-type]
    assert not answer.passed and answer.status == 403


def test_other_events_of_the_server_pass_untouched():
    seen = []

    async def app(scope: Any, *_: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(Guard(app, Policy(token=TOKEN))({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]


def test_a_token_has_eight_characters_or_more():
    assert MIN_TOKEN == 8
    assert Policy(token="12345678").token == "12345678"


@pytest.mark.parametrize(
    "host, local",
    [
        *(("localhost", True), ("127.0.0.9", True), ("[::1]", True), ("::1", True)),
        *(("0.0.0.0", False), ("10.0.0.1", False), ("a", False), ("z.example", False)),
    ],
)
def test_what_is_bound_to_this_machine_alone(host, local):
    assert is_local(host) is local


@pytest.mark.parametrize("bound, known", [("0.0.0.0", True), ("localhost", False)])
def test_the_machines_own_names_count_on_the_network_alone(monkeypatch, bound, known):
    monkeypatch.setattr(socket, "gethostname", lambda: "Mac.home.arpa")
    policy = Policy(bound, token=TOKEN)
    for name in ("mac.home.arpa", "mac", "mac.local", "MAC.local:8998"):
        assert policy.host_allowed(name) is known
    for name in ("home.local", "arpa.local", "home", "arpa", "maclocal", "mac.home"):
        assert not policy.host_allowed(name)


@pytest.mark.parametrize(
    "origin",
    ["https://", "//host", "https:///x", "https://x/y", "https://x?y", "x", ""],
)
def test_what_is_not_an_origin_is_refused(origin):
    with pytest.raises(ConfigError, match="--allow-origin"):
        Policy(origins=[origin])


def test_made_tokens_are_long_and_new():
    assert len(new_token()) == 24 and new_token() != new_token()


def test_a_password_with_rubbish_in_it_is_none():
    broken = basic(TOKEN)
    assert not asked(Policy(token=TOKEN), authorization=broken + "!").passed
    assert not asked(
        Policy(token=TOKEN), authorization=f"{broken[:9]}!{broken[9:]}"
    ).passed
