"""Voices that clients made from recordings and named: files for the owner alone."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audio.files import make_folder
from ..errors import ConfigError, NoPlace, ProtocolError
from ..utils.private_files import write_private

LONGEST_NAME = 64  # characters
MOST_VOICES = 100
_FORM = "moshi_mlx voice 1"


def default_folder() -> Path:
    """The folder for voices, unless ``--voice-folder`` names another."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "moshi_mlx" / "voices"


@dataclass(frozen=True)
class KeptVoice:
    """A voice of one model.

    Attributes:
        name: the name that its client gave it.
        created: seconds since 1970.
        codes: ``[1 + n_q, P]``, see ``SpeechModel.get_prefix``.
    """

    name: str
    created: int
    codes: NDArray[np.int32]


class KeptVoices:
    """A folder of voices, each a JSON file that only its owner can read.

    A file's name is a digest of the voice's name and its model: nothing from a client
    becomes part of a path.

    Args:
        folder: it is made with the first voice.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def keep(self, name: str, model: str, codes: NDArray[np.int32]) -> KeptVoice:
        """Write a new voice.

        Raises: ProtocolError for a name that is invalid or taken; NoPlace if there are
            ``MOST_VOICES``; ConfigError if it cannot be written.
        """
        name = checked_name(name)
        voice = KeptVoice(name, int(time.time()), codes)
        about = {"form": _FORM, "name": name, "model": model, "created": voice.created}
        data = json.dumps({**about, "codes": codes.tolist()}).encode()
        try:
            make_folder(self._folder, private=True)
            if len(list(self._files())) >= MOST_VOICES:
                words = f"{MOST_VOICES} voices are kept: delete one first."
                raise NoPlace(words)
            write_private(self._path(name, model), data)
        except FileExistsError:
            words = f"there is a voice {name!r} already: delete it, or choose a name."
            raise ProtocolError(words) from None
        except OSError as error:
            words = (
                f"a voice could not be written into {self._folder}: {error.strerror}."
            )
            raise ConfigError(words) from error
        return voice

    def all(self, model: str) -> list[KeptVoice]:
        """The voices of a model, by name; damaged files are left out."""
        found = (_read(path, model) for path in self._files())
        return sorted((v for v in found if v is not None), key=lambda v: v.name)

    def find(self, name: str, model: str) -> KeptVoice | None:
        """A voice by its name."""
        return _read(self._path(name, model), model)

    def delete(self, name: str, model: str) -> bool:
        """Remove a voice; returns whether there was one."""
        try:
            self._path(name, model).unlink()
        except OSError:
            return False
        return True

    def _files(self) -> Iterator[Path]:
        with contextlib.suppress(OSError):
            yield from self._folder.glob("*.json")

    def _path(self, name: str, model: str) -> Path:
        digest = hashlib.sha256(json.dumps([model, name]).encode()).hexdigest()
        return self._folder / f"{digest[:32]}.json"


def checked_name(name: object) -> str:
    """A valid name of a new voice. Raises: ProtocolError for an invalid one."""
    name = name.strip() if isinstance(name, str) else ""
    if not name or len(name) > LONGEST_NAME or "/" in name or not name.isprintable():
        raise ProtocolError(
            f"a voice needs a name of 1 to {LONGEST_NAME} letters, without slashes."
        )
    return name


def _read(path: Path, model: str) -> KeptVoice | None:
    try:
        fields: Any = json.loads(path.read_bytes())
        if fields["form"] != _FORM or fields["model"] != model:
            return None
        codes = np.array(fields["codes"], np.int32)
        return KeptVoice(str(fields["name"]), int(fields["created"]), codes)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
