"""Files that are not what they should be: pointers, and files with a wrong checksum."""

import hashlib
import re
from pathlib import Path

from .paths import real_path

LFS = b"version https://git-lfs"
LFS_POINTER = (
    "is a Git LFS pointer, not the file itself: run 'git lfs pull' in its folder"
)
_SHA256 = re.compile("[0-9a-f]{64}")


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()


def damaged(path: Path) -> str:
    """What is wrong with a file of the hub's cache, and what to do; "" if nothing.

    Other files, and small ones (which the hub names differently), have no checksum to
    compare with.
    """
    blob = real_path(path)
    if blob.parent.name != "blobs" or not _SHA256.fullmatch(blob.name):
        return ""
    if sha256(blob) == blob.name:
        return ""
    return (
        f"{path.name} is not what the hub has, its checksum differs: delete {blob} and "
        "repeat the command to download it again"
    )


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file only points to another one, as in a clone without Git LFS."""
    with path.open("rb") as file:
        return file.read(len(LFS)) == LFS
