"""Names become paths; what goes wrong with the hub becomes one clear sentence."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from moshi_mlx.errors import CheckpointError
from moshi_mlx.utils import loaders
from moshi_mlx.utils.loaders import NotInRepoError, hf_get
from tests.utils.hub_server import (
    COMMIT,
    REPO,
    FakeHub,
    point_to,
    serving,
    set_constant,
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    for server in serving(tmp_path, monkeypatch):
        server.files = {
            "config.json": b'{"dim": 8}',
            "w.safetensors": bytes(range(256)),
        }
        yield server


def part_of(tmp_path: Path, data: bytes, begun: bytes) -> Path:
    """Leave the beginning of a download on disk, as an interrupted run does."""
    name = hashlib.sha256(data).hexdigest()
    blobs = tmp_path / "cache" / "models--owner--model" / "blobs"
    blobs.mkdir(parents=True)
    part = blobs / f"{name}.part"
    part.write_bytes(begun)
    return part


def test_paths_and_plain_names_are_returned_as_they_are():
    assert hf_get(Path("a/b")) == Path("a/b")
    assert hf_get("a/b.wav") == Path("a/b.wav")
    assert hf_get("file:///x/y", "owner/model") == Path("/x/y")


def test_a_local_file_is_preferred_when_asked(tmp_path, monkeypatch, hub):
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text("local")
    local = hf_get("config.json", REPO, check_local_file_exists=True)
    assert local == Path("config.json")
    assert hf_get("config.json", REPO).read_bytes() == hub.files["config.json"]


def test_hub_names_are_fetched_once(hub):
    path = hf_get(f"hf://{REPO}/config.json")
    assert path.read_bytes() == hub.files["config.json"]
    hub.requests.clear()
    assert hf_get("config.json", REPO) == path
    assert [method for method, _, _ in hub.requests] == ["HEAD"]


def test_a_revision_may_be_an_argument_or_part_of_the_name(hub):
    want = hf_get("config.json", REPO, revision=COMMIT)
    assert hf_get(f"hf://{REPO}@{COMMIT}/config.json") == want
    with pytest.raises(CheckpointError, match=r"no revision 'v9'"):
        hf_get("config.json", REPO, revision="v9")


def test_a_revision_of_one_repository_is_not_asked_of_another(hub):
    path = hf_get(f"hf://{REPO}/config.json", "somebody/else", revision="v9")
    assert path.read_bytes() == hub.files["config.json"]


@pytest.mark.parametrize("begun", [0, 100])
def test_an_interrupted_download_goes_on(tmp_path, monkeypatch, hub, begun):
    monkeypatch.setattr(loaders, "RESUMABLE", 0)
    data = hub.files["w.safetensors"]
    part = part_of(tmp_path, data, data[:begun])
    assert hf_get("w.safetensors", REPO).read_bytes() == data
    ranges = [asked for method, _, asked in hub.requests if method == "GET"]
    assert ranges == [f"bytes={begun}-" if begun else None]
    assert [p.name for p in part.parent.iterdir()] == [part.stem]


def test_parts_that_do_not_fit_are_fetched_anew(tmp_path, monkeypatch, hub):
    monkeypatch.setattr(loaders, "RESUMABLE", 0)
    data = hub.files["w.safetensors"]
    part_of(tmp_path, data, b"x" * 100)
    with pytest.raises(CheckpointError, match="came damaged"):
        hf_get("w.safetensors", REPO)
    assert hf_get("w.safetensors", REPO).read_bytes() == data


def test_free_disk_is_checked_before_a_download(monkeypatch, hub):
    monkeypatch.setattr(loaders, "RESUMABLE", 0)
    full = SimpleNamespace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: full)
    with pytest.raises(CheckpointError, match=r"GB more on disk .* free some space"):
        hf_get("w.safetensors", REPO)
    assert not any(method == "GET" for method, _, _ in hub.requests)


def test_a_missing_file_is_named(hub):
    with pytest.raises(NotInRepoError, match=r"owner/model has no file 'voice.wav'"):
        hf_get("voice.wav", REPO)


def test_an_unknown_repository_is_named(hub):
    with pytest.raises(CheckpointError, match=r"no model 'owner/typo' .* spelling"):
        hf_get("config.json", "owner/typo")


def test_a_gated_repository_says_how_to_get_in(hub):
    with pytest.raises(CheckpointError, match=r"owner/gated is gated: accept .* login"):
        hf_get("config.json", "owner/gated")


def test_a_name_that_is_none_is_refused(hub):
    with pytest.raises(
        CheckpointError, match="is not the name of a hub repository: write OWNER/NAME"
    ):
        hf_get("config.json", "not a repo!")
    with pytest.raises(
        CheckpointError, match="is not the name of a hub repository: write hf://"
    ):
        hf_get("hf://only-owner")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No proxy of this machine, and none of another test."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    forget_sessions()
    yield
    forget_sessions()


def forget_sessions() -> None:
    """Let the hub client read the environment anew."""
    from huggingface_hub import utils

    for name in ("close_session", "reset_sessions"):  # 1.x and later, 0.x
        if hasattr(utils, name):
            getattr(utils, name)()


ANSWERS = {
    "5xx": (502, {}, "the hub cannot be reached (it answers with an error, 502)"),
    "limit": (429, {"Retry-After": "37"}, "it limits requests (429): wait 37 s"),
    "rate": (429, {"RateLimit": '"api";r=0;t=55'}, "(429): wait 55 s"),
    "limit without a time": (429, {}, "(429): wait some minutes"),
    "proxy password": (407, {}, "wants a name and a password (407)"),
    "forbidden": (403, {}, "refused owner/model/config.json (403"),
    "login page": (200, {"Content-Type": "text/html"}, "as a login page of a network"),
    "login elsewhere": (
        302,
        {"Location": "http://login.invalid/"},
        "as a login page of a network",
    ),
}


@pytest.mark.parametrize("status, headers, sentence", ANSWERS.values(), ids=ANSWERS)
def test_each_trouble_is_named_by_its_cause_and_the_cache_serves(
    hub, status, headers, sentence
):
    hub.answer = status, headers
    with pytest.raises(CheckpointError) as told:
        hf_get("config.json", REPO)
    assert sentence in str(told.value)
    hub.answer = None
    path = hf_get("config.json", REPO)
    hub.answer = status, headers
    assert hf_get("config.json", REPO) == path


def test_an_expired_token_is_named(hub, monkeypatch):
    set_constant("HF_TOKEN_PATH", "", monkeypatch)
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    message = "Invalid credentials in Authorization header"
    hub.answer = 401, {"X-Error-Message": message}
    with pytest.raises(CheckpointError, match=r"refuses your access token .*expired"):
        hf_get("config.json", REPO)


@pytest.mark.parametrize("status", [404, 410])
def test_a_mirror_that_says_only_404_is_understood(hub, status):
    hub.answer = status, {}
    words = f"the hub refused .*{status}, nothing is there: check the name"
    with pytest.raises(CheckpointError, match=words):
        hf_get("config.json", REPO)


PROXIES = {
    "socks": ("socks5://127.0.0.1:1", "the proxy 127.0.0.1 of HTTP_PROXY"),
    "gone": (
        "http://u:secret@127.0.0.1:1",
        "no connection through the proxy 127.0.0.1 of HTTP_PROXY|does not let it",
    ),
    "nonsense": ("gopher://127.0.0.1:1", "the proxy 127.0.0.1 of HTTP_PROXY"),
}


@pytest.mark.parametrize("address, sentence", PROXIES.values(), ids=PROXIES)
def test_a_proxy_that_cannot_be_used_is_named_and_the_cache_serves(
    hub, monkeypatch, address, sentence
):
    path = hf_get("config.json", REPO)
    forget_sessions()
    monkeypatch.setenv("HTTP_PROXY", address)
    assert hf_get("config.json", REPO) == path
    with pytest.raises(CheckpointError, match=sentence) as told:
        hf_get("w.safetensors", REPO)
    assert "secret" not in str(told.value)


def test_a_name_that_is_not_found_is_named(hub, monkeypatch):
    point_to("http://no-such-host.invalid", monkeypatch)
    with pytest.raises(CheckpointError, match=r"name is not found \(DNS\)"):
        hf_get("config.json", REPO)


@pytest.mark.parametrize("address", ["huggingface.co", "file:///x", "http://"])
def test_an_endpoint_that_is_none_is_named(hub, monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    point_to(address, monkeypatch)
    with pytest.raises(CheckpointError, match=r"HF_ENDPOINT is .*no address like"):
        hf_get("config.json", REPO)


@pytest.mark.parametrize("how", ["setting", "unreachable", "broken"])
def test_without_the_hub_the_cache_serves(hub, monkeypatch, how):
    path = hf_get("config.json", REPO)
    break_hub(hub, monkeypatch, how)
    assert hf_get("config.json", REPO) == path


@pytest.mark.parametrize("how", ["setting", "unreachable", "broken"])
def test_without_the_hub_and_cache_the_demo_is_named(hub, monkeypatch, how):
    break_hub(hub, monkeypatch, how)
    with pytest.raises(CheckpointError, match=r"not on this machine, .* .--model demo"):
        hf_get("config.json", "kyutai/moshiko-mlx-q4")


@pytest.mark.parametrize("name", ["mimi", "stt-1b-en_fr-candle", "tts-1.6b-en_fr"])
def test_the_demo_is_named_where_it_does_the_same(hub, monkeypatch, name):
    break_hub(hub, monkeypatch, "setting")
    with pytest.raises(CheckpointError, match="or use '--model demo'"):
        hf_get("config.json", f"kyutai/{name}")


@pytest.mark.parametrize("name", ["hibiki-1b-mlx-bf16", "tts-voices"])
def test_the_demo_is_not_named_where_it_cannot_stand_in(hub, monkeypatch, name):
    break_hub(hub, monkeypatch, "setting")
    with pytest.raises(CheckpointError, match=r"or name a folder that holds it\.$"):
        hf_get("config.json", f"kyutai/{name}")


def break_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "setting":
        set_constant("HF_HUB_OFFLINE", True, monkeypatch)
    elif how == "unreachable":
        point_to("http://127.0.0.1:1", monkeypatch)
    else:
        hub.broken = True
