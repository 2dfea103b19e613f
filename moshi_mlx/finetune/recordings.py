"""The training data: recordings with their words, in moshi-finetune's form.

A line of a jsonl file names a recording (``{"path": "a.wav", "duration": 12.3}``, with
the path relative to the file's folder), and a JSON file beside the recording contains
its words::

    {"alignments": [["hello", [0.4, 0.8], "SPEAKER_MAIN"], ...]}

Ours may also state ``"channel": 1``, for a model that only listens: which channel.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..utils.json_text import parse_json, read_json
from .words import SpokenWord

SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac")
TRAIN, VALID = "train", "valid"


@dataclass(frozen=True)
class TrainingRecording:
    """A recording: its file, its length in seconds, and the channel to transcribe."""

    path: Path
    duration: float
    channel: int | None = None

    @property
    def transcript(self) -> Path:
        return self.path.with_suffix(".json")

    def about(self) -> dict[str, Any]:
        """The content of its transcript besides the words: ``text_conditions`` by name,
        and for PersonaPlex ``text_prompt`` and ``voice_prompt``.

        Raises: ConfigError for values of another type.
        """
        data = read_json(self.transcript) if self.transcript.is_file() else {}
        told = data.get("text_conditions") or {}
        found: dict[str, Any] = {"text_conditions": told}
        if not isinstance(told, dict) or not all(
            isinstance(value, str | None) for value in told.values()
        ):
            raise ConfigError(
                f"{self.transcript} has text_conditions {str(told)[:60]}: write them "
                'as {"name": "value"}.'
            )
        for name in ("text_prompt", "voice_prompt"):
            found[name] = data.get(name) or ""
            if not isinstance(found[name], str):
                raise ConfigError(f"{self.transcript} has a {name} that is no text.")
        return found

    def words(self) -> list[SpokenWord] | None:
        """Its words; None if the list says that there is no transcript.

        Raises: ConfigError for a file that is missing or not a transcript.
        """
        file = self.transcript
        if not file.is_file():
            raise ConfigError(
                f"{self.path} has no transcript {file.name} beside it: write one with "
                f"'moshi-mlx annotate {self.path.parent}'."
            )
        try:
            found = parse_json(file.read_bytes())["alignments"]
            return None if found is None else [_word(entry) for entry in found]
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise ConfigError(
                f"{file} is not a transcript ({type(error).__name__}: {error}): it "
                'should hold {"alignments": [["word", [start, end], "SPEAKER_MAIN"], '
                "...]}."
            ) from error


def _word(entry: Any) -> SpokenWord:
    text, (start, end), *speaker = entry
    start, end = float(start), float(end)
    if not (isinstance(text, str) and math.isfinite(start) and math.isfinite(end)):
        raise ValueError(f"{str(entry)[:60]} is not a word with its times")
    return SpokenWord(text, start, end, *map(str, speaker[:1]))


@dataclass
class DataSource:
    """Recordings that are drawn with the same weight."""

    name: str
    recordings: list[TrainingRecording] = field(default_factory=list)
    weight: float = 1.0


def find_sources(data: str, part: str = TRAIN) -> list[DataSource]:
    """The recordings that ``--data`` names.

    Args:
        data: a jsonl file, or a folder with ``train.jsonl`` and perhaps
            ``valid.jsonl``, with other jsonl files, or only with recordings. Several
            are separated by commas, each perhaps with ``:weight``.
        part: "train" or "valid". Only a folder with ``valid.jsonl`` has the latter.

    Raises: ConfigError for what is not there, empty, or not as it should be.
    """
    found: list[DataSource] = []
    for entry in filter(None, (e.strip() for e in data.split(","))):
        path, weight = _weighted(entry)
        files = _files(path, part)
        for file in files:
            recordings = _listed(file) if file.suffix == ".jsonl" else _heard(file)
            found.append(DataSource(str(file), recordings, weight / len(files)))
    if part == TRAIN and not any(source.recordings for source in found):
        raise ConfigError(
            f"{data!r} names no recordings: give a jsonl file with lines like "
            '{"path": "a.wav", "duration": 12.3}, or a folder of recordings.'
        )
    return [source for source in found if source.recordings]


def _weighted(entry: str) -> tuple[Path, float]:
    path, colon, last = entry.rpartition(":")
    if not colon or Path(entry).expanduser().exists():
        return Path(entry).expanduser(), 1.0
    try:
        weight = float(last)
    except ValueError:
        return Path(entry).expanduser(), 1.0
    if not 0 < weight < math.inf:
        raise ConfigError(f"{entry!r} has the weight {last}: give one above 0.")
    return Path(path).expanduser(), weight


def _files(path: Path, part: str) -> list[Path]:
    """The jsonl files that a path means, or the folder itself."""
    if path.is_dir():
        own = path / f"{part}.jsonl"
        if own.is_file():
            return [own]
        if part != TRAIN:
            return []
        lists = sorted(f for f in path.glob("*.jsonl") if f.stem != VALID)
        return lists or [path]
    if not path.is_file():
        raise ConfigError(f"there is no data {str(path)!r}: check the name.")
    if path.suffix != ".jsonl":
        raise ConfigError(
            f"{str(path)!r} is not a list of recordings: name a jsonl file or a folder."
        )
    return [path] if part == TRAIN else []


def _listed(file: Path) -> list[TrainingRecording]:
    found = []
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{str(file)!r} cannot be read as a list of recordings ({error}): it "
            "should be text in UTF-8, a line for each."
        ) from error
    for number, line in enumerate(text.split("\n"), 1):  # U+2028 may be in a name
        if not line.strip():
            continue
        try:
            entry = parse_json(line.encode())
            path, duration = file.parent / entry["path"], float(entry["duration"])
            channel = entry.get("channel")
            if not 0 < duration < math.inf or type(channel) not in (int, type(None)):
                raise ValueError("a duration must be above 0, a channel a number")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"line {number} of {file} is not a recording ({error}): it should be "
                'like {"path": "a.wav", "duration": 12.3}.'
            ) from error
        if not path.is_file():
            raise ConfigError(
                f"line {number} of {file} names {str(path)!r}, which is not there."
            )
        found.append(TrainingRecording(path, duration, channel))
    return found


def _heard(folder: Path) -> list[TrainingRecording]:
    """Recordings in a folder without a list, with their lengths."""
    from ..audio.files import read

    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SOUNDS:
            samples = read(path, mono=False).shape[1]
            found.append(TrainingRecording(path, samples / 24_000))
    return found
