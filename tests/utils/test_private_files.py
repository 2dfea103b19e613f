"""Private files are new, their owner's alone, and never behind a link."""

import os

import pytest

from moshi_mlx.utils.private_files import new_private, write_private

pytestmark = pytest.mark.skipif(os.name == "nt", reason="not on Windows")


def test_only_the_owner_reads_them_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        write_private(tmp_path / "key.pem", b"secret")
    finally:
        os.umask(before)
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "key.pem").read_bytes() == b"secret"


@pytest.mark.parametrize("there", ["file", "link", "link to nothing"])
def test_what_is_there_is_neither_overwritten_nor_followed(tmp_path, there):
    target, path = tmp_path / "target", tmp_path / "path"
    if there != "link to nothing":
        target.write_text("mine")
    path.symlink_to(target) if "link" in there else path.write_text("mine")
    with pytest.raises(FileExistsError):
        open(path, "wb", opener=new_private).close()
    assert not target.exists() or target.read_text() == "mine"
