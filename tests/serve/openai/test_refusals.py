"""Whatever is wrong with a request is told in OpenAI's shape."""

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moshi_mlx.audio.encode import FORMATS, encoded
from moshi_mlx.errors import ConfigError, MissingExtra
from moshi_mlx.serve.gate.refusal import Refused
from moshi_mlx.serve.protocols.openai import forms
from moshi_mlx.serve.protocols.openai.errors import refused
from moshi_mlx.serve.protocols.openai.models import read_voice_map
from moshi_mlx.serve.protocols.openai.speech import read_request


def test_what_is_wrong_is_told_in_openais_shape(client, monkeypatch):
    monkeypatch.setattr(forms, "MOST_UPLOAD", 100_000)
    file = ("a.wav", b"RIFF")
    form = {"file": file}
    json_, many = "application/json", [("prompt", "x" * 70_000)]
    cases: list[tuple[str, dict[str, Any], int, str]] = [
        ("/audio/speech", {"content": b"\xff\x00", "type": json_}, 400, "not JSON"),
        ("/audio/speech", {"content": b"[" * 9999, "type": json_}, 400, "not JSON"),
        ("/audio/speech", {"content": b"[]", "type": json_}, 400, "JSON object"),
        ("/audio/speech", {"content": b"x" * 2**21, "type": json_}, 413, "longer"),
        ("/audio/transcriptions", {"content": b"{}", "type": json_}, 400, "multipart"),
        ("/audio/transcriptions", {"files": form}, 400, "file"),
        (
            "/audio/transcriptions",
            {"files": {"file": ("a.wav", b"x" * 200_000)}},
            413,
            "0 MiB at most",
        ),
        (
            "/audio/transcriptions",
            {"files": [*form.items()], "data": dict(many)},
            400,
            "form cannot be read",
        ),
        (
            "/audio/transcriptions",
            {"data": {"file": "a"}, "files": {"f": file}},
            400,
            "no file",
        ),
        (
            "/audio/transcriptions",
            {"files": form, "data": {"response_format": "x"}},
            400,
            "response_format must be",
        ),
        ("/nothing", {"content": b""}, 404, "there is no POST /v1/nothing"),
    ]
    for path, how, status, words in cases:
        kind = how.pop("type", None)
        headers = {"content-type": kind} if kind else {}
        url = f"{str(client.base_url).rstrip('/')}{path}"
        reply = client._client.post(url, headers=headers, **how)
        error = reply.json()["error"]
        assert reply.status_code == status, (path, reply.text)
        assert words in error["message"], reply.text
        assert set(error) == {"message", "type", "param", "code"}
        assert "/tmp" not in error["message"]


def test_any_json_is_read_or_refused():
    chance = random.Random(5)
    values = [None, True, -1, 1e300, "", "mp3", "x" * 50, [], {}, {"id": 3}, ["a"]]
    names = ["input", "voice", "response_format", "stream_format", "speed", "model"]
    good = {"input": "hello", "voice": "alloy"}
    read_well = 0
    for _ in range(200):
        fields = {**good, **{n: chance.choice(values) for n in chance.sample(names, 2)}}
        data = bytearray(json.dumps(fields).encode())
        if chance.random() < 0.3:
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            wanted = read_request(bytes(data))
        except Refused as refusal:
            assert refusal.status == 400
        else:
            assert wanted.text.strip() and wanted.form in FORMATS
            read_well += 1
    assert 10 < read_well < 190


def test_every_method_and_path_below_v1_is_answered_in_openais_shape(client):
    ask = client._client.request
    base = str(client.base_url).rstrip("/")
    assert ask("HEAD", f"{base}/models").status_code == 200
    for method, path in (("OPTIONS", "/audio/speech"), ("GET", ""), ("PUT", "/x/y")):
        reply = ask(method, f"{base}{path}")
        assert reply.status_code == 404
        assert reply.json()["error"]["code"] == "unknown_url"


# Starlette leaves the file of a part that was cut off to Python, which closes it.
@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
def test_any_form_is_read_or_refused(client):
    """Damaged uploads: a client's error, never ours, and no file is left behind."""
    chance = random.Random(6)
    folder = Path(tempfile.gettempdir())
    before = set(folder.glob("moshi-mlx-*"))
    sound = encoded(np.zeros(2400, np.float32), "wav")
    part = b'--cut\r\nContent-Disposition: form-data; name="'
    good = part + b'file"; filename="a.wav"\r\n\r\n' + sound + b"\r\n"
    good += part + b'response_format"\r\n\r\njson\r\n--cut--\r\n'
    url = f"{str(client.base_url).rstrip('/')}/audio/transcriptions"
    headers = {"content-type": "multipart/form-data; boundary=cut"}
    seen = set()
    for _ in range(200):
        body = bytearray(good)
        heads = [*range(130), *range(len(body) - 90, len(body))]
        for _ in range(chance.randrange(1, 4)):
            body[chance.choice(heads)] = chance.randrange(256)
        if chance.random() < 0.3:
            del body[chance.randrange(len(body)) :]
        reply = client._client.post(url, content=bytes(body), headers=headers)
        seen.add(reply.status_code)
        assert reply.status_code in (200, 400), reply.text
        if reply.status_code == 400:
            assert "/tmp" not in reply.json()["error"]["message"]
    assert seen == {200, 400}
    assert set(folder.glob("moshi-mlx-*")) == before


def test_programs_can_tell_a_missing_extra():
    assert refused(MissingExtra("no av")).code == "missing_extra"
    assert refused(ConfigError("needs the extra 'x'")).code is None


def test_a_map_of_voices_is_read():
    assert read_voice_map(["alloy=a/b.wav", "x = y"]) == {"alloy": "a/b.wav", "x": "y"}
    for wrong in ("alloy", "=b", "a="):
        with pytest.raises(ConfigError, match="write it like alloy=VOICE"):
            read_voice_map([wrong])
