"""The part of the hub that takes uploads, on this machine: an edge that tests fake."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class UploadHub(ThreadingHTTPServer):
    """Takes commits of small files to ``me/...``; what came is in ``files``.

    ``refuse`` is the status that every request gets instead.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.created: list[dict] = []
        self.files: dict[str, bytes] = {}
        self.refuse: int | None = None
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def answer(self, path: str, body: bytes) -> dict:
        """What a POST does."""
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return {"url": f"{self.url}/me/{self.created[-1]['name']}"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            return {"files": [{"path": f["path"], **modes} for f in files]}
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                value = entry["value"]
                self.files[value["path"]] = base64.b64decode(value["content"])
        return {"commitUrl": f"{self.url}/me/x/commit/c0ffee", "commitOid": "c0ffee"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        hub = self.server
        assert isinstance(hub, UploadHub)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if hub.refuse:
            self._send(hub.refuse, {"error": "no"})
        else:
            self._send(200, hub.answer(self.path, body))

    def do_GET(self) -> None:
        self._send(200, {"siblings": [], "sha": "c0ffee", "id": "me/x"})

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def _send(self, status: int, data: dict) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
