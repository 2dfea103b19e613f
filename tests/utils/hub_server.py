"""A Hugging Face hub of one model, on this machine: the edge that the tests fake."""

import hashlib
import importlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

REPO = "owner/model"
COMMIT = "c0ffee" + "0" * 34


class FakeHub(ThreadingHTTPServer):
    """Serves ``files`` of ``owner/model`` (main); remembers the requests.

    ``owner/gated`` is gated, any other repository unknown; ``broken`` answers 503, and
    ``answer`` is a status and headers with which everything is answered.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str | None]] = []  # method, file, range
        self.broken = False
        self.answer: tuple[int, dict[str, str]] | None = None
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def refusal(self, repo: str, revision: str, file: str) -> tuple[int, str] | None:
        """Status and error code with which the hub refuses a file."""
        if self.broken:
            return 503, ""
        if repo == "owner/gated":
            return 403, "GatedRepo"
        if repo != REPO:
            return 401, "RepoNotFound"
        if revision not in ("main", COMMIT):
            return 404, "RevisionNotFound"
        return None if file in self.files else (404, "EntryNotFound")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def _answer(self) -> bytes:
        """Send the headers; the body is for GET."""
        repo, _, rest = unquote(self.path).lstrip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        asked = self.headers.get("Range")
        hub = self.server
        assert isinstance(hub, FakeHub)
        hub.requests.append((self.command, file, asked))
        if hub.answer is not None:
            self.send_response(hub.answer[0])
            for name, value in {"Content-Length": "0", **hub.answer[1]}.items():
                self.send_header(name, value)
            self.end_headers()
            return b""
        refusal = hub.refusal(repo, revision, file)
        if refusal is not None:
            self.send_response(refusal[0])
            self.send_header("X-Error-Code", refusal[1])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return b""
        data = hub.files[file]
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        if asked:
            span = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.send_header("Content-Range", span)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        return data[start:]


def set_constant(name: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change a setting of the hub client, in every module that copied it (0.x)."""
    importlib.import_module("huggingface_hub.file_download")
    for path, module in list(sys.modules.items()):
        if path.startswith("huggingface_hub") and name in vars(module):
            monkeypatch.setattr(module, name, value)


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the hub client ask this address."""
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    set_constant("ENDPOINT", url, monkeypatch)
    set_constant("HUGGINGFACE_CO_URL_TEMPLATE", template, monkeypatch)


def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A running hub that the client asks, with an empty cache; for a fixture."""
    hub = FakeHub()
    point_to(hub.url, monkeypatch)
    set_constant("HF_HUB_CACHE", str(tmp_path / "cache"), monkeypatch)
    set_constant("HF_TOKEN_PATH", str(tmp_path / "no-token"), monkeypatch)
    set_constant("HF_HUB_OFFLINE", False, monkeypatch)
    yield hub
    hub.close()
