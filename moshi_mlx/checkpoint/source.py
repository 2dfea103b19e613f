"""Where a checkpoint's files come from: a folder, the hub, or the package itself."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from urllib.parse import urlsplit

from ..errors import CheckpointError
from ..utils.loaders import NotInRepoError, hf_get

CONFIG = "config.json"
DEMO = "demo"
DEMOS = {DEMO: CONFIG, "demo-stt": "stt.json", "demo-tts": "tts.json"}  # built in
HUB = "hf://"
_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_WEB = re.compile(r"https?://([^/:]+)(?::\d+)?/*(.*)")
_PAGE = re.compile(  # OWNER/NAME, and perhaps /tree/REVISION
    r"(?!datasets/|spaces/|docs/)([\w.-]+/[\w.-]+)"
    r"(?:/(?:tree|blob|resolve)/([^/?#]+)|/?(?:[?#]|$)|/)"
)
_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
DEMO_FOLDER = Path(__file__).parents[1] / "demo"


@dataclass(frozen=True)
class Source:
    """Where files come from: a folder, or a repository at a revision.

    Attributes:
        config: the file that describes the model. A folder may hold a family: several
            models with one codec and one tokenizer, Moshi's config.json beside stt.json
            and tts.json.
    """

    folder: Path | None = None
    repo: str | None = None
    revision: str | None = None
    config: str = CONFIG

    def __str__(self) -> str:
        return str(self.folder or self.repo)

    def get(self, filename: str) -> Path:
        """The path of a file of the checkpoint, downloaded if need be.

        Args:
            filename: a path inside the checkpoint, or ``hf://OWNER/REPO/FILE``.

        Raises: CheckpointError for a name that leads out of the checkpoint;
            ``NotInRepoError`` if there is no such file.
        """
        if not stays_inside(filename):
            raise CheckpointError(
                f"{self} names the file {filename[:60]!r}, which leads out of it: a "
                "checkpoint can only name its own files and hf://OWNER/REPO/FILE."
            )
        if self.folder is None or filename.startswith(HUB):
            return hf_get(filename, self.repo, revision=self.revision)
        path = self.folder / filename
        if not path.exists():
            raise NotInRepoError(
                f"folder {str(self.folder)!r} has no file {filename!r}."
            )
        return path

    def first(self, filenames: Iterable[str]) -> Path | None:
        """The first of the files that exists."""
        for name in filenames:
            try:
                return self.get(name)
            except NotInRepoError:
                continue
        return None

    def sibling(self, kind: str) -> "Source":
        """A family's model of a kind ("stt", "tts").

        If there is none, or this is one of a family already, the result is this one.
        """
        file = f"{kind}.json"
        if self.folder is None or self.config != CONFIG:
            return self
        return replace(self, config=file) if (self.folder / file).is_file() else self

    def local(self, names: Iterable[str], given: str | Path | None) -> Path | None:
        """The first of the files that is on this machine already.

        Args:
            given: a file that the user gave instead.
        """
        if given is not None:
            path = Path(str(given).removeprefix("file://")).expanduser()
            return path if path.is_file() else None
        return None if self.folder is None else self.first(names)

    @classmethod
    def named(cls, name: str, revision: str | None = None) -> "Source":
        """The source that a user means by a name: see ``CheckpointInfo.find``.

        Raises: CheckpointError if it is neither a folder nor a repository's name.
        """
        if name in DEMOS and (DEMO_FOLDER / DEMOS[name]).is_file():
            return cls(folder=DEMO_FOLDER, config=DEMOS[name])
        if name == DEMO:
            raise CheckpointError(
                "this installation lacks the built-in model 'demo': reinstall it."
            )
        if match := _WEB.match(name):
            return _of_the_web(name, match, revision)
        local = Path(name.removeprefix("file://")).expanduser()
        if (local / "snapshots").is_dir():
            return cls(folder=_snapshot(local))
        if not local.exists() and (match := _CACHED.fullmatch(name)):
            name = f"{match[1]}/{match[2]}"  # as the hub's cache calls a repository
        if local.is_dir():
            inner = local / "consolidated"  # moshi-finetune's, below checkpoint_000300
            own = (local / CONFIG).exists() or not inner.is_dir()
            return cls(folder=local if own else inner)
        repo, _, at = name.removeprefix("hf://").strip("/").partition("@")
        if local.suffix in (".safetensors", ".gguf"):
            raise CheckpointError(f"there is no file {name!r}: check the name.")
        if name.startswith(("file://", "/", ".", "~")) or repo.count("/") != 1:
            raise CheckpointError(
                f"there is no folder {name!r}: name a folder, a hub repository "
                "OWNER/NAME, or 'demo', which is built in."
            )
        return cls(repo=repo, revision=revision or at or None)


def _of_the_web(name: str, match: re.Match[str], revision: str | None) -> Source:
    """The repository that the address of a page on the hub means."""
    host, path = match.groups()
    own = urlsplit(os.environ.get("HF_ENDPOINT", "")).hostname
    if host not in (*_HOSTS, own) or not (page := _PAGE.match(path)):
        raise CheckpointError(
            f"{name} is no address of a model on the hub: give one like "
            "https://huggingface.co/OWNER/NAME, or OWNER/NAME."
        )
    return Source(repo=page[1], revision=revision or page[2])


def _snapshot(folder: Path) -> Path:
    """The files of a repository in the hub's cache (``models--OWNER--NAME``)."""
    main = folder / "refs" / "main"
    found = sorted((folder / "snapshots").iterdir(), key=lambda p: p.stat().st_mtime)
    if main.is_file():
        newest = folder / "snapshots" / main.read_text().strip()
        found += [newest] if newest.is_dir() else []
    if not found:
        raise CheckpointError(
            f"{str(folder)!r} is a folder of the hub's cache in which no download was "
            "finished: name the repository itself, OWNER/NAME, to fetch it."
        )
    return found[-1]


def stays_inside(filename: str) -> bool:
    """Whether a name in a checkpoint means a file of its own, or of the hub.

    What a config.json from the hub names is read, copied by ``convert`` and may be
    uploaded: an absolute path, ``..`` or ``file://`` would expose the user's own files.
    """
    path = filename.removeprefix(HUB)
    there = PureWindowsPath(path)  # knows both slashes and drive letters
    rooted = path.startswith(("/", "~")) or bool(there.drive or there.root)
    return bool(path) and not rooted and ":" not in path and ".." not in there.parts
