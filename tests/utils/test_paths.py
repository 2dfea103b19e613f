"""Paths that people name."""

import os

import pytest

from moshi_mlx.cli.outputs import check_outputs
from moshi_mlx.utils.paths import real_path
from moshi_mlx.utils.whole_files import write_whole

pytestmark = pytest.mark.skipif(os.name == "nt", reason="not on Windows")


def test_links_are_followed(tmp_path):
    (tmp_path / "link").symlink_to("there")
    assert real_path(tmp_path / "link") == real_path(tmp_path) / "there"


def test_a_link_that_leads_in_a_circle_is_replaced_by_a_file(tmp_path):
    circle = tmp_path / "circle.txt"
    circle.symlink_to("circle.txt")
    check_outputs(tmp_path / "in.wav", {"--words": circle})
    write_whole(circle, "text")
    assert circle.read_text() == "text"
