"""Files by name: on this machine, or fetched from the Hugging Face hub.

``hf_get`` is moshi_mlx 0.3.0's, plus revisions. A download checks the free disk space
first, shows the hub client's progress bar, and continues where an interrupted one
stopped. Any failure becomes one sentence that says what to do.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ..errors import CheckpointError
from .blobs import sha256
from .hub_errors import OFFLINE, PORTAL, NoHubError, explained, is_final
from .hub_errors import NotInRepoError as NotInRepoError

RESUMABLE = 8 * 2**20  # bytes: smaller files are simply fetched again
SPARE_DISK = 200 * 2**20  # bytes to leave free on the disk


def hf_get(
    filename: str | Path,
    hf_repo: str | None = None,
    check_local_file_exists: bool = False,
    revision: str | None = None,
) -> Path:
    """The path of a file, downloaded if need be.

    Args:
        filename: a ``Path`` or a plain name without ``hf_repo`` is returned as it is;
            ``hf://owner/repo/file`` (or ``hf://owner/repo@revision/file``) is fetched;
            ``file://path`` is that path.
        hf_repo: ``owner/repo`` to fetch a plain name from.
        check_local_file_exists: prefer a local file of that name to the repository's.
        revision: branch, tag or commit of ``hf_repo``, if that is given.

    Raises:
        CheckpointError: unknown, gated or unreachable repository, too little disk
            space; ``NotInRepoError`` where only the file is missing.
    """
    if isinstance(filename, Path):
        return filename
    if filename.startswith("hf://"):
        repo, path, own_revision = _split_hf_name(filename)
        if hf_repo is not None and repo != hf_repo:
            revision = None  # it belongs to another repository
        return _download(repo, path, own_revision or revision)
    if filename.startswith("file://"):
        return Path(filename.removeprefix("file://"))
    if hf_repo is None or (check_local_file_exists and Path(filename).exists()):
        return Path(filename)
    return _download(hf_repo, filename, revision)


def _split_hf_name(name: str) -> tuple[str, str, str | None]:
    match = re.fullmatch(r"hf://([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)", name)
    if match is None:
        raise CheckpointError(
            f"{name!r} is not the name of a hub repository: write hf://OWNER/REPO/FILE."
        )
    return match[1], match[3], match[2]


def _download(repo: str, filename: str, revision: str | None) -> Path:
    """Fetch one file into the hub's cache, unless it is there already."""
    import huggingface_hub as hub
    from huggingface_hub import constants

    try:
        cached = hub.try_to_load_from_cache(repo, filename, revision=revision)
        here = Path(cached) if isinstance(cached, str) else None
        if constants.HF_HUB_OFFLINE:
            if here is None:
                raise NoHubError(OFFLINE)
            return here
        url = hub.hf_hub_url(repo, filename, revision=revision)
        try:
            meta = _metadata(url)
        except Exception as error:
            if here is not None and not is_final(error):
                return here
            raise
        if here is not None and meta.commit_hash in here.parts:
            return here
        if (meta.size or 0) > RESUMABLE:
            _fetch_blob(repo, filename, url, meta)
        return Path(hub.hf_hub_download(repo, filename, revision=revision))
    except CheckpointError:
        raise
    except Exception as error:
        sentence = explained(error, repo, filename, revision)
        if sentence is None:
            raise
        raise sentence from error


def _metadata(url: str) -> Any:
    """What the hub says of a file. Raises: NoHubError if another server answers."""
    import huggingface_hub as hub

    meta = hub.get_hf_file_metadata(url)
    if not meta.commit_hash or not meta.etag:
        raise NoHubError(PORTAL)
    return meta


def _fetch_blob(repo: str, filename: str, url: str, meta: Any) -> None:
    """Download a large file into the hub's cache, resuming an earlier download.

    The hub client (2.x) forgets a download that its process did not finish; here the
    part that arrived stays on disk. The client then only has to link the finished file.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import http_get, repo_folder_name
    from huggingface_hub.utils import WeakFileLock, build_hf_headers

    folder = repo_folder_name(repo_id=repo, repo_type="model")
    blob = Path(constants.HF_HUB_CACHE) / folder / "blobs" / meta.etag
    if blob.exists():
        return
    blob.parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(f"{meta.etag}.part")
    headers = build_hf_headers()
    if urlparse(meta.location).netloc != urlparse(url).netloc:
        headers.pop("authorization", None)  # a storage host's link is signed already
    with WeakFileLock(f"{part}.lock"), part.open("ab") as file:
        if blob.exists():  # another process fetched it meanwhile
            return
        have = part.stat().st_size
        if have > meta.size:
            file.truncate(0)
            have = 0
        _check_disk(blob.parent, meta.size - have, f"{repo}/{filename}")
        http_get(
            meta.location,
            file,
            resume_size=have,
            headers=headers,
            expected_size=meta.size,
            displayed_filename=filename,
        )
        file.flush()
        if have and not _is_whole(part, meta.etag):
            file.truncate(0)
            raise CheckpointError(
                f"{repo}/{filename} came damaged, its parts do not fit together: "
                "repeat the command to download it again."
            )
        os.replace(part, blob)
    Path(f"{part}.lock").unlink(missing_ok=True)


def _check_disk(folder: Path, size: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + SPARE_DISK:
        raise CheckpointError(
            f"{what} needs {size / 1e9:.1f} GB more on disk and {folder} has "
            f"{free / 1e9:.1f} GB free: free some space, or set HF_HOME to a larger "
            "disk."
        )


def _is_whole(path: Path, etag: str) -> bool:
    """Whether a file matches its etag (true if the etag is not a checksum)."""
    return not re.fullmatch("[0-9a-f]{64}", etag) or sha256(path) == etag
