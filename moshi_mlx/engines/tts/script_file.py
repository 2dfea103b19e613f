"""Scripts from a file of JSON lines; a bad line never affects the others."""

import json
import posixpath
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ...errors import ConfigError, MoshiError
from .markup import composed

KEYS = {"turns": list, "voices": list, "id": str}
LONGEST_NAME = 240  # bytes of each part of an id: file systems take 255, with endings
LONGEST_ID = 900  # bytes: macOS takes paths of 1024


@dataclass(frozen=True)
class Script:
    """A script.

    Attributes:
        line: number of its line in the file, from 1.
        turns: what is said, the main speaker first.
        voices: the speakers' voices, in the same order.
        id: the name of its output files.
    """

    line: int
    turns: list[str]
    voices: list[str]
    id: str


@dataclass(frozen=True)
class Failure:
    """A line without a result, and why."""

    line: int
    reason: str


def read_scripts(data: bytes | str) -> Iterator[Script | Failure]:
    """The scripts of a JSONL file, and the errors of its bad lines.

    Only newlines end a line: JSON may contain the other characters that end lines.
    """
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    seen: dict[str, int] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            script = _parsed(number, line)
            first = seen.setdefault(_same_file(script.id), number)
            if first != number:
                raise ConfigError(
                    f"the id {script.id!r} was used before: line {first} names the "
                    "same file"
                )
            yield script
        except MoshiError as error:
            yield Failure(number, str(error))


def _parsed(number: int, line: bytes) -> Script:
    data = _json(line)
    if not isinstance(data, dict):
        raise ConfigError(f"is not a JSON object with {', '.join(KEYS)}")
    if wrong := sorted(set(data) ^ set(KEYS)):
        said = ", ".join(k if k.isprintable() else repr(k) for k in wrong)
        raise ConfigError(
            f"needs exactly {', '.join(KEYS)}; missing or unknown: {said}"
        )
    for key, kind in KEYS.items():
        parts = data[key] if kind is list else [data[key]]
        if not isinstance(data[key], kind) or not all(
            isinstance(part, str) for part in parts
        ):
            raise ConfigError(f"has no {'texts' if kind is list else 'text'} as {key}")
        for part in parts:
            composed(part)  # refuses half characters
            if key != "turns" and "\0" in part:
                raise ConfigError(f"has a NUL character in {key}")
    _check_id(data["id"])
    return Script(number, **data)


def _json(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise ConfigError(
            f"is not UTF-8 (byte {byte:#x} at {error.start + 1})"
        ) from None
    except json.JSONDecodeError as error:
        what = f"{error.msg.removesuffix(' at')} at character {error.colno}"
        raise ConfigError(f"is not JSON ({what})") from None
    except ValueError:  # Python refuses to read them
        raise ConfigError("holds a number of thousands of digits") from None
    except RecursionError:
        raise ConfigError("is nested too deeply") from None


def _check_id(name: str) -> None:
    """Refuse an id that cannot name a file inside the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise ConfigError(f"has the id {_shown(name)}, which cannot name a file here")
    sizes = [len(part.encode()) for part in path.parts]
    if max(sizes) > LONGEST_NAME or len(name.encode()) > LONGEST_ID:
        raise ConfigError(f"has the id {_shown(name)}, which is too long for a file")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 60 else f"{name[:57]}...")


def _same_file(name: str) -> str:
    """Equal for ids that become one file, on a Mac too (``a``, ``./a``, ``A``)."""
    return unicodedata.normalize("NFC", posixpath.normpath(name)).casefold()
