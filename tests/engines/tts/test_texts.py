"""Where a text comes from."""

import os
import threading

import pytest

from moshi_mlx.engines.tts.texts import TextSource
from moshi_mlx.errors import ConfigError


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/urandom"])
def test_a_device_is_no_text(device: str):
    with pytest.raises(ConfigError, match=f"{device} is a device: name a text file"):
        TextSource(device)


def test_a_pipe_is_read_to_its_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    text = "a café\n" * 1000
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=[text])
    writer.start()
    assert TextSource(str(tmp_path / "pipe")).read() == text
    writer.join()
