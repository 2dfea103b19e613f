"""Where a checkpoint's files come from: a folder, the hub, or the package itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from ..errors import CheckpointError
from ..utils.loaders import NotInRepoError, hf_get

DEMO = "demo"
HUB = "hf://"
DEMO_FOLDER = Path(__file__).parents[1] / "demo"


@dataclass(frozen=True)
class Source:
    """Where files come from: a folder, or a repository at a revision."""

    folder: Path | None = None
    repo: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        return str(self.folder or self.repo)

    def get(self, filename: str) -> Path:
        """The path of a file of the checkpoint, downloaded if need be.

        Args:
            filename: a path inside the checkpoint, or ``hf://OWNER/REPO/FILE``.

        Raises: CheckpointError for a name that leads out of the checkpoint;
            ``NotInRepoError`` where there is no such file.
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

    @classmethod
    def named(cls, name: str, revision: str | None = None) -> "Source":
        """The source that a user means by a name: see ``CheckpointInfo.find``.

        Raises: CheckpointError where it is neither a folder nor a repository's name.
        """
        if name == DEMO:
            if not (DEMO_FOLDER / "config.json").is_file():
                raise CheckpointError(
                    "this installation lacks the built-in model 'demo': reinstall it."
                )
            return cls(folder=DEMO_FOLDER)
        local = Path(name.removeprefix("file://")).expanduser()
        if local.is_dir():
            inner = local / "consolidated"  # moshi-finetune's, below checkpoint_000300
            own = (local / "config.json").exists() or not inner.is_dir()
            return cls(folder=local if own else inner)
        repo, _, at = name.removeprefix("hf://").strip("/").partition("@")
        if local.suffix == ".safetensors":
            raise CheckpointError(f"there is no file {name!r}: check the name.")
        if name.startswith(("file://", "/", ".", "~")) or repo.count("/") != 1:
            raise CheckpointError(
                f"there is no folder {name!r}: name a folder, a hub repository "
                "OWNER/NAME, or 'demo', which is built in."
            )
        return cls(repo=repo, revision=revision or at or None)


def stays_inside(filename: str) -> bool:
    """Whether a name that a checkpoint gives means a file of its own, or of the hub.

    What a config.json from the hub names is read, copied by ``convert`` and may be
    uploaded: an absolute path, ``..`` or ``file://`` would take the user's own files.
    """
    path = filename.removeprefix(HUB)
    there = PureWindowsPath(path)  # knows both slashes and drive letters
    rooted = path.startswith(("/", "~")) or bool(there.drive or there.root)
    return bool(path) and not rooted and ":" not in path and ".." not in there.parts
