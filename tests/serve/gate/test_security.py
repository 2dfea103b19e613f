"""Who is let in."""

import base64
import hashlib
import socket
import ssl
import urllib.error
import urllib.request

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from moshi_mlx.errors import ConfigError
from moshi_mlx.serve.app import check_static
from moshi_mlx.serve.gate import tls
from moshi_mlx.serve.gate.security import (
    OTHER_PAGE_POLICY,
    Policy,
    is_local,
    new_token,
)
from tests.serve.gate.patience import SOON_S

TOKEN = "correct horse"


@pytest.mark.parametrize(
    "host, allowed",
    [
        ("localhost", True),
        ("localhost:8998", True),
        ("LOCALHOST.:8998", True),
        ("127.0.0.1:8998", True),
        ("[::1]:8998", True),
        ("192.168.1.20:8998", True),  # an address cannot be rebound
        ("evil.example", False),
        ("evil.example:8998", False),
        ("localhost.evil.example", False),
        ("evil-localhost", False),
        ("evil.localhost:8998", False),
        ("localhost:8998@evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("localhost:8998 evil", False),
        ("localhost;script-src *", False),
    ],
)
def test_host_must_be_this_machine(host, allowed):
    assert Policy().host_allowed(host) is allowed


@pytest.mark.parametrize(
    "origin, allowed",
    [
        (None, True),
        ("http://localhost:8998", True),
        ("https://localhost:8998", True),
        ("http://localhost:9000", False),
        ("http://evil.example", False),
        ("http://localhost:8998.evil.example", False),
        ("null", False),
        ("", False),
        ("https://friend.example", True),
        ("http://friend.example", False),
    ],
)
def test_origin_must_be_the_servers_own_or_allowed(origin, allowed):
    policy = Policy(origins=["https://friend.example"])
    assert policy.origin_allowed(origin, "localhost:8998") is allowed


def test_an_allowed_origins_name_is_a_host_too():
    policy = Policy(origins=["https://moshi.example:444/"])
    assert policy.host_allowed("moshi.example:444")


def test_machines_own_names_are_hosts_when_bound_to_the_network():
    name = socket.gethostname().split(".")[0]
    assert Policy("0.0.0.0", token=TOKEN).host_allowed(f"{name}.local:8998")
    assert not Policy("localhost").host_allowed("foo.local:8998")


@pytest.mark.parametrize("origin", ["evil.example", "ftp://x", "https://x/path", "*"])
def test_what_is_no_origin_is_said(origin):
    with pytest.raises(ConfigError, match="is not an origin"):
        Policy(origins=[origin])


def test_short_tokens_are_refused_and_made_ones_are_long():
    with pytest.raises(ConfigError, match="7 characters"):
        Policy(token="1234567")
    assert len(new_token()) >= 20 and new_token() != new_token()


@pytest.mark.parametrize(
    "host, local",
    [("localhost", True), ("127.0.0.1", True), ("::1", True), ("0.0.0.0", False)],
)
def test_what_is_local(host, local):
    assert is_local(host) is local


def status(url: str, **headers: str) -> tuple[int, dict[str, str]]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=SOON_S) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}


def socket_status(url: str, **headers: str) -> int:
    """101 where the WebSocket opens."""
    try:
        with connect(url, additional_headers=headers, compression=None):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


def test_pages_and_names_of_others_are_refused(serve):
    server = serve()
    assert status(server.url("/"))[0] == 200
    assert status(server.url("/"), Host="evil.example")[0] == 403
    assert status(server.url("/health"), Origin="http://evil.example")[0] == 403
    assert socket_status(server.chat()) == 101
    own = f"http://localhost:{server.port}"
    assert socket_status(server.chat(), Origin=own) == 101
    assert socket_status(server.chat(), Origin="http://evil.example") == 403
    assert socket_status(server.chat(), Origin="null") == 403


def test_a_token_opens_in_the_address_the_header_and_the_cookie(serve):
    server = serve(policy=Policy(token=TOKEN))
    code, headers = status(server.url("/"))
    assert code == 401 and headers["www-authenticate"].startswith("Basic")
    assert status(server.url("/health"))[0] == 200
    assert status(server.url("/metrics"))[0] == 200  # on this machine, as Unmute asks
    assert status(server.url("/metrics"), Forwarded="for=192.0.2.1")[0] == 401
    assert status(server.url("/?token=wrong"))[0] == 401
    assert socket_status(server.chat()) == 401
    assert socket_status(server.chat("worker_auth_id=wrong+horse")) == 401
    assert socket_status(server.chat("worker_auth_id=correct+horse")) == 101

    basic = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    assert status(server.url("/"), Authorization=f"Basic {basic}")[0] == 200
    assert socket_status(server.chat(), Authorization=f"Bearer {TOKEN}") == 101
    assert status(server.url("/"), Authorization="Basic !!!")[0] == 401

    code, headers = status(server.url("/?token=correct+horse"))
    cookie = headers["set-cookie"]
    assert code == 200 and TOKEN not in cookie
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    kept = cookie.split(";")[0]
    assert status(server.url("/app.js"), Cookie=kept)[0] == 200
    assert socket_status(server.chat(), Cookie=kept) == 101
    assert status(server.url("/app.js"), Cookie="moshi_token=wrong")[0] == 401


def test_the_page_may_load_nothing_from_elsewhere(serve):
    headers = status(serve().url("/"))[1]
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "//etc/passwd",
        "/link",
        "/x/../../y",
    ],
)
def test_paths_cannot_leave_the_static_folder(serve, tmp_path, path):
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("page")
    (folder / "link").symlink_to(tmp_path / "secret")
    policy = Policy(content_policy=OTHER_PAGE_POLICY)
    server = serve(static=check_static(folder), policy=policy)
    with socket.create_connection(("localhost", server.port)) as raw:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        raw.sendall(request.encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.split()[1] in (b"404", b"405")
    assert b"\r\n\r\nsecret" not in answer


def test_a_folder_without_a_page_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"no index\.html"):
        check_static(tmp_path)


def test_https_on_the_spot_carries_page_and_protocol(serve):
    context, fingerprint = tls.made_on_the_spot(
        ["localhost", "127.0.0.1", "my-mac.local"]
    )
    server = serve(tls=context)
    certificate = ssl.get_server_certificate(("localhost", server.port))
    trusting = ssl.create_default_context(cadata=certificate)
    url = f"https://localhost:{server.port}/"
    with urllib.request.urlopen(url, context=trusting, timeout=SOON_S) as answer:
        assert answer.status == 200
    wss = server.chat().replace("ws://", "wss://")
    own = {"Origin": url.rstrip("/")}
    with connect(wss, ssl=trusting, additional_headers=own, compression=None) as ws:
        assert ws.recv(timeout=SOON_S)
    der = ssl.PEM_cert_to_DER_cert(certificate)
    assert hashlib.sha256(der).digest().hex(":").upper() == fingerprint


def test_a_folder_with_a_certificate_is_used(tmp_path):
    with pytest.raises(ConfigError, match=r"no cert\.pem"):
        tls.from_folder(tmp_path)
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("not a certificate")
    with pytest.raises(ConfigError, match="cannot be used"):
        tls.from_folder(tmp_path)
    certificate, key = tls.new_certificate(["localhost"])
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(key)
    assert tls.from_folder(tmp_path).minimum_version == ssl.TLSVersion.TLSv1_2


def test_own_names_name_this_machine():
    assert tls.own_names()[:2] == ["localhost", "127.0.0.1"]
    assert not any(address.startswith("127.") for address in tls.own_addresses())
