"""What the Rust codec refuses, in one sentence (what it computes: tests/parity)."""

import sys
from pathlib import Path

import pytest

from moshi_mlx.codec import RustCodec, make_codec
from moshi_mlx.errors import CheckpointError, ConfigError
from tests.tiny_mimi import RELEASED_NAMES


def test_without_the_wheel_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rustymimi", None)
    told = r"extra 'rust'.*pip install 'moshi_mlx\[rust\]', .*below 3\.14, .* native"
    with pytest.raises(ConfigError, match=told):
        make_codec("rust", weights=RELEASED_NAMES)


@pytest.mark.parametrize("count", [0, 33])
def test_codebooks_that_a_file_cannot_have_are_refused(count):
    with pytest.raises(ConfigError, match=f"^{count} codebooks .* 1 to 32"):
        RustCodec(RELEASED_NAMES, num_codebooks=count)


def test_a_codec_of_another_shape_is_refused():
    pytest.importorskip("rustymimi", reason="not on this Python: rustymimi")
    with pytest.raises(CheckpointError, match="needs a released Mimi file") as caught:
        make_codec("rust", weights=RELEASED_NAMES)
    assert "\n" not in str(caught.value) and "shape mismatch" in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    pytest.importorskip("rustymimi", reason="not on this Python: rustymimi")
    with pytest.raises(CheckpointError, match=r"cannot load .*gone\.safetensors"):
        make_codec("rust", weights=tmp_path / "gone.safetensors")
