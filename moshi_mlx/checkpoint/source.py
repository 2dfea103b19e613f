"""Where a checkpoint's files come from: a folder, the hub, or the package itself."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..utils.loaders import NotInRepoError, hf_get

DEMO = "demo"
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
        """A file's path, downloaded if need be; ``NotInRepoError`` if there is none."""
        if self.folder is None or filename.startswith(("hf://", "file://")):
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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises: CheckpointError where the file holds anything else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read as JSON: {error}"
        ) from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{str(path)!r} should hold a JSON object.")
    return data
