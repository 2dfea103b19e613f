"""From sound alone to recordings with words: checked, written down, listed.

A model transcribes the channel of the side that is to be learnt. The output has
moshi-finetune's form: a JSON file beside each recording, and ``train.jsonl``.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from ..audio.files import read
from ..audio.framing import FRAME, SAMPLE_RATE
from ..documents.words import Word
from ..errors import AudioError, ConfigError, MoshiError
from ..utils.json_text import parse_json
from ..utils.whole_files import write_whole
from .recordings import SOUNDS, TRAIN, VALID
from .words import MAIN

LOUD_DB = -45.0  # of a frame in which somebody speaks
QUIET_DB = -40.0  # loudest frame of a channel that is too quiet to learn from
CLIPPED = 0.01  # largest accepted share of a channel's samples at the limit
SAME = 0.98  # correlation above which two channels are the same sound
OVERLAP = 0.3  # share of overlapping speech that is worth a remark


@dataclass
class CheckedRecording:
    """What was found in a recording.

    Attributes:
        words: number of words that the model's side says.
        remarks: anything odd that is no reason to drop it.
        dropped: why it was dropped; empty if it was not.
    """

    path: Path
    duration: float = 0.0
    words: int = 0
    remarks: list[str] = field(default_factory=list)
    dropped: str = ""


class Ear(Protocol):
    """The parts of a transcribing model that are used."""

    def __call__(self, pcm: np.ndarray, /) -> Sequence[Word]: ...


def annotate(
    files: Iterable[Path],
    hear: Ear,
    *,
    channels: int = 2,
    channel: int = 0,
    overwrite: bool = False,
    tell: Callable[[CheckedRecording], None] = lambda _: None,
) -> list[CheckedRecording]:
    """Write the words of recordings beside them.

    Args:
        hear: returns the words of mono sound ``[S]`` at 24 kHz.
        channels: number of channels that a recording needs; 1 for a model that only
            listens.
        channel: the channel to transcribe.
        overwrite: replace existing transcripts.
        tell: called with each recording when it is done.

    Raises: AudioError if a transcript cannot be written.
    """
    found = []
    for path in files:
        done = _annotated(path, hear, channels, channel, overwrite)
        found.append(done)
        tell(done)
    return found


def _annotated(
    path: Path, hear: Ear, channels: int, channel: int, overwrite: bool
) -> CheckedRecording:
    done = CheckedRecording(path)
    try:
        sound = read(path, SAMPLE_RATE, mono=False)
    except MoshiError as error:
        done.dropped = str(error)
        return done
    done.duration = sound.shape[1] / SAMPLE_RATE
    done.dropped = unfit(sound, channels, channel)
    if done.dropped:
        return done
    done.remarks = remarks(sound)
    transcript = path.with_suffix(".json")
    if transcript.exists() and not overwrite:
        done.remarks.append(f"{transcript.name} was there and stays")
        done.words = _count(transcript)
        return done
    words = [w for w in hear(sound[channel]) if w.text.strip() and w.end_s > w.start_s]
    done.words = len(words)
    if not words:
        done.dropped = "no words were heard in it"
        return done
    data = [[w.text, [round(w.start_s, 3), round(w.end_s, 3)], MAIN] for w in words]
    try:
        text = json.dumps({"alignments": data}, ensure_ascii=False)
        write_whole(transcript, text + "\n")
    except OSError as error:
        raise AudioError(
            f"{transcript} cannot be written: {error.strerror}. Choose another place."
        ) from error
    return done


def _count(transcript: Path) -> int:
    try:
        return len(parse_json(transcript.read_bytes())["alignments"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{transcript} is there and is no transcript: remove it, or give "
            "--overwrite."
        ) from error


def levels(sound: np.ndarray) -> np.ndarray:
    """Loudness of each frame of each channel, in dB of full scale: ``[C, frames]``."""
    count = max(sound.shape[1] // FRAME, 1)
    padded = np.zeros((len(sound), count * FRAME), np.float32)
    whole = min(sound.shape[1], count * FRAME)
    padded[:, :whole] = sound[:, :whole]
    frames = padded.reshape(len(sound), count, FRAME)
    return 10 * np.log10(np.square(frames).mean(axis=2) + 1e-10)


def unfit(sound: np.ndarray, channels: int, channel: int) -> str:
    """Why a recording ``[C, S]`` cannot be learnt from; empty if it can."""
    if len(sound) < max(channels, channel + 1):
        return (
            f"it has {len(sound)} channel(s) and {max(channels, channel + 1)} are "
            "needed, the model's side in the left one"
        )
    if levels(sound)[channel].max() < QUIET_DB:
        return f"channel {channel} is silent"
    if channels == 2 and _correlation(sound) > SAME:
        return "both channels hold the same sound"
    return ""


def _correlation(sound: np.ndarray) -> float:
    one, two = (side - side.mean() for side in sound[:2])
    power = float(np.sqrt((one @ one) * (two @ two)))
    return abs(float(one @ two)) / power if power else 0.0


def remarks(sound: np.ndarray) -> list[str]:
    """Anything odd about a recording ``[C, S]``: levels, clipping, overlaps."""
    found = []
    loud = levels(sound) > LOUD_DB
    for number, side in enumerate(sound[:2]):
        share = float((np.abs(side) >= 0.999).mean())
        if share > CLIPPED:
            found.append(f"channel {number} is clipped in {share:.0%} of its samples")
        if not loud[number].any():
            found.append(f"channel {number} is silent")
    if len(sound) > 1 and loud[:2].any():
        both = float(loud[:2].all(axis=0).sum() / loud[:2].any(axis=0).sum())
        if both > OVERLAP:
            found.append(f"both sides speak in {both:.0%} of the speech")
    return found


def sounds_in(folder: Path) -> list[Path]:
    """The recordings of a folder. Raises: ConfigError if there are none."""
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {str(folder)!r}: check its name.")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SOUNDS)
    if not found:
        raise ConfigError(
            f"{str(folder)!r} holds no recordings: put WAV, FLAC or MP3 files there."
        )
    return found


def write_lists(
    folder: Path, found: Sequence[CheckedRecording], valid: float, channel: int | None
) -> list[Path]:
    """Write ``train.jsonl`` and, with a share to evaluate on, ``valid.jsonl``.

    Every n-th recording is used for evaluation, at least one.

    Args:
        channel: named in each line; None names none.

    Raises: ConfigError if nothing is left to learn from; AudioError if a list cannot be
        written.
    """
    good = [done for done in found if not done.dropped]
    if not good:
        raise ConfigError("nothing is left to learn from: see what was dropped, above.")
    every = round(1 / valid) if valid else 0
    parts: dict[str, list[CheckedRecording]] = {TRAIN: [], VALID: []}
    for number, done in enumerate(good):
        last = bool(every) and (number % every == every - 1)
        parts[VALID if last and len(good) > 1 else TRAIN].append(done)
    if every and not parts[VALID] and len(good) > 1:
        parts[VALID].append(parts[TRAIN].pop())
    written = []
    for name, chosen in parts.items():
        if not chosen:
            continue
        lines = []
        for done in chosen:
            entry: dict[str, object] = {"path": done.path.name}
            entry["duration"] = round(done.duration, 3)
            if channel is not None:
                entry["channel"] = channel
            lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
        written.append(folder / f"{name}.jsonl")
        try:
            write_whole(written[-1], "".join(lines))
        except OSError as error:
            raise AudioError(
                f"{written[-1]} cannot be written: {error.strerror}."
            ) from error
    return written
