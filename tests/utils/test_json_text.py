"""JSON from strangers is bounded, and refused with the reason."""

import json
import os
import threading

import pytest

from moshi_mlx.errors import CheckpointError
from moshi_mlx.utils.json_text import MAX_BYTES, MAX_DEPTH, parse_json, read_json


@pytest.mark.parametrize(
    "text, words",
    [
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": [-Infinity]}', "holds -Infinity"),
        (b'{"a": 1e999}', "holds the number 1e999, which is too large"),
        (b"[" * 200_000, "nested more than 32 levels"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested more than 32 levels"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "names 'c' twice"),
        (b'{"' + b"n" * 99 + b'": 1, "' + b"n" * 99 + b'": 2}', "names 'n{80}' twice"),
        (b"[" + b"1" * 400 + b".0]", "the number 1{40}, which"),
        (b'{"a": 1', "delimiter"),
        (b'"\xff"', "utf-8"),
        (b" " * (MAX_BYTES + 1), "longer than 16 MiB"),
    ],
)
def test_what_is_no_json_of_ours_is_refused_with_its_reason(text, words):
    with pytest.raises(ValueError, match=words):
        parse_json(text)


def test_plain_json_is_read_to_the_last_level():
    deep = b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)
    assert json.loads(deep) == parse_json(deep)
    assert parse_json(b'\xef\xbb\xbf{"a": [1, 2.5, null, "\xc3\xa9"]}') == {
        "a": [1, 2.5, None, "é"]
    }


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="not on this system")
def test_a_file_without_end_is_not_read_to_its_end():
    from pathlib import Path

    with pytest.raises(CheckpointError, match="longer than 16 MiB"):
        read_json(Path("/dev/zero"))


def test_a_pipe_is_read_as_a_file_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b'{"dim": 4}',))
    writer.start()
    assert read_json(pipe) == {"dim": 4}
    writer.join()
