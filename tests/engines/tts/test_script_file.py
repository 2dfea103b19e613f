"""A file of scripts: each line for itself, whatever is in the others."""

import json
from typing import Any

import pytest

from moshi_mlx.engines.tts.script_file import Failure, Script, read_scripts


def line(**changed: Any) -> bytes:
    data = {"turns": ["hello"], "voices": ["v"], "id": "x", **changed}
    return json.dumps(data).encode()


BAD = {
    "nul in the id": (line(id="a\0b"), "NUL character in id"),
    "nul in a voice": (line(voices=["a\0b"]), "NUL character in voices"),
    "nul bytes": (b"\0\0\0", "not JSON"),
    "surrogate": (line(turns=["a\ud800"]), "half a character"),
    "surrogate id": (line(id="\udc00"), "half a character"),
    "depth": (b"[" * 200_000, "nested too deeply"),
    "huge number": (b'{"id": ' + b"9" * 10_000 + b"}", "thousands of digits"),
    "infinite number": (b'{"turns": [], "voices": [], "id": 1e999}', "no text as id"),
    "bad utf-8": (line().replace(b"hello", b"h\xe9llo"), "not UTF-8 (byte 0xe9 at 14)"),
    "utf-16": (line().decode().encode("utf-16"), "not UTF-8"),
    "long id": (line(id="y" * 300), "too long for a file"),
    "long path": (line(id="y/" * 600 + "y"), "too long for a file"),
    "long in bytes": (line(id="é" * 125), "too long for a file"),
    "absolute": (line(id="/tmp/a"), "cannot name a file here"),
    "upwards": (line(id="a/../../b"), "cannot name a file here"),
    "nothing": (line(id=""), "cannot name a file here"),
    "dot": (line(id="."), "cannot name a file here"),
    "twice": (line(id="good"), "was used before: line 1 names"),
    "twice, otherwise": (line(id="./good"), "was used before: line 1 names"),
    "twice on a Mac": (line(id="Good"), "was used before: line 1 names"),
    "other keys": (line(more=1), "more"),
}


@pytest.mark.parametrize("bad, reason", BAD.values(), ids=BAD)
def test_a_bad_line_is_named_and_costs_no_other(bad: bytes, reason: str):
    data = line(id="good") + b"\n" + bad + b"\n\n" + line(id="last")
    found = list(read_scripts(data))
    assert [r.id for r in found if isinstance(r, Script)] == ["good", "last"]
    (failure,) = (r for r in found if isinstance(r, Failure))
    assert failure.line == 2 and reason in failure.reason
    assert len(failure.reason) < 200
    assert found[-1].line == 4


def test_lines_end_at_newlines_only():
    odd = "one\u2028two\u0085three"
    data = json.dumps({"turns": [odd], "voices": [], "id": "a"}, ensure_ascii=False)
    found = list(read_scripts(data.encode() + b"\r\n" + line(id="b")))
    assert [type(r) for r in found] == [Script, Script]
    assert isinstance(found[0], Script) and found[0].turns == [odd]


def test_a_byte_order_mark_is_stepped_over():
    (found,) = read_scripts(b"\xef\xbb\xbf" + line())
    assert isinstance(found, Script)


def test_text_is_taken_as_bytes_are():
    assert list(read_scripts(line().decode())) == list(read_scripts(line()))
