"""A file is the old one or the new one, never half of it."""

import os
from pathlib import Path

import pytest

from moshi_mlx.utils.whole_files import part_of, whole_file, write_whole


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "words.srt"
    write_whole(path, "old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as begun:
        begun.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_run_left_goes_with_the_next(tmp_path: Path):
    path = tmp_path / "words.srt"
    part_of(path).write_text("half of a longer text")
    write_whole(path, "whole")
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


def test_permissions_and_links_stay(tmp_path: Path):
    path, link = tmp_path / "a.txt", tmp_path / "link.txt"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    write_whole(link, "new")
    assert link.is_symlink() and path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_pipe_is_written_as_it_is(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, "words")
    assert os.read(reader, 100) == b"words"
    os.close(reader)
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("name", ["a" * 255, "ü" * 127])
def test_the_longest_names_are_written_too(tmp_path: Path, name: str):
    write_whole(tmp_path / name, "words")
    assert [path.name for path in tmp_path.iterdir()] == [name]
