"""Speech on disk: utterances with what is known of each, many in one file."""

import json
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path("data")  # in the folder in which the recipe runs
SAMPLE_RATE = 24_000  # Hz
FRAME = 1920  # samples of one frame of codes: 80 ms


@dataclass(frozen=True)
class Utterance:
    """Something said: int16 ``wav [S]`` at 24 kHz; who says what, in ``meta``."""

    wav: np.ndarray
    meta: dict[str, Any]

    @property
    def pcm(self) -> np.ndarray:
        """float32 ``[S]`` in [-1, 1]."""
        return self.wav.astype(np.float32) / 32768


def save(path: Path, utterances: list[Utterance]) -> None:
    """Write a shard: ``wav`` of all, their ``bounds`` in it, and ``meta`` as JSON."""
    bounds = np.cumsum([0] + [len(u.wav) for u in utterances])
    wav = np.concatenate([u.wav for u in utterances])
    np.savez(
        path, wav=wav, bounds=bounds, meta=json.dumps([u.meta for u in utterances])
    )
    minutes = bounds[-1] / SAMPLE_RATE / 60
    print(path, len(utterances), "utterances", round(minutes, 1), "min")


def load(path: Path) -> list[Utterance]:
    shard = np.load(path)
    wav, bounds = shard["wav"], shard["bounds"]
    meta = json.loads(str(shard["meta"]))
    return [
        Utterance(wav[bounds[i] : bounds[i + 1]], known) for i, known in enumerate(meta)
    ]


def user_shards(split: str) -> list[Path]:
    """The shards of one split of the users, by seed."""
    return sorted(DATA.glob(f"users_{split}_[0-9]*.npz"))


def read_wav(path: Path) -> np.ndarray:
    """int16 ``[S]`` of a mono file at 24 kHz."""
    with wave.open(str(path)) as file:
        assert file.getframerate() == SAMPLE_RATE
        assert file.getnchannels() == 1
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def write_wav(path: Path, pcm: np.ndarray) -> None:
    """Write floats in [-1, 1] as a 16-bit mono file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((pcm.clip(-1, 1) * 32767).astype(np.int16).tobytes())
