"""The output of commands: files, checked before anything runs, and JSON."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import AudioError
from ..utils.paths import real_path

Json: TypeAlias = dict[str, Any]  # a JSON object, as schema.json describes it
SCHEMA = 1  # version of the output of --json: see schema.json in this folder


def print_json(command: str, result: Mapping[str, object]) -> None:
    """Print a command's result as one line of JSON, with the name of its schema."""
    print(json.dumps(with_schema(command, result), ensure_ascii=False))


def with_schema(command: str, result: Mapping[str, object]) -> Json:
    """``result`` preceded by the command and the schema's version."""
    return {"schema": f"moshi-mlx/{command}/{SCHEMA}", **result}


def check_outputs(
    read: Path | Iterable[Path] | None,
    written: Mapping[str, Path | None] | None = None,
    sound: Mapping[str, Path | None] | None = None,
    wav: Mapping[str, Path | None] | None = None,
) -> None:
    """Check that files can be written, and are neither inputs nor the same as each
    other.

    Args:
        read: the input while the others are written: a recording, or several files.
        written: what the user calls each file, and its name; None if there is none.
        sound: sound files, likewise; their names say the format.
        wav: WAV files, likewise.

    Raises: AudioError if two are the same file, a folder does not exist or is
        write-protected, or the name of a sound file is one of another format.
    """
    from ..audio.files import check_wav_name
    from ..audio.save import check_sound_name

    sound, wav = sound or {}, wav or {}
    for check, paths in ((check_sound_name, sound), (check_wav_name, wav)):
        for path in paths.values():
            if path is not None:
                check(path)
    inputs = [read] if isinstance(read, Path) else read or ()
    names = {real_path(path): "the input itself" for path in inputs}
    for what, path in {**sound, **wav, **(written or {})}.items():
        if path is None:
            continue
        _check_place(path)
        other = names.setdefault(real_path(path), what)
        if other != what:
            raise AudioError(f"{path} is {other}: give {what} another name.")


def _check_place(path: Path) -> None:
    folder = path.absolute().parent
    if not folder.is_dir():
        raise AudioError(
            f"{path} cannot be written: there is no folder {path.parent}. Make it, "
            "or choose another place."
        )
    if path.is_dir():
        raise AudioError(f"{path} is a folder: name a file in it.")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise AudioError(
            f"{path} cannot be written: it is write-protected. Choose another place."
        )
