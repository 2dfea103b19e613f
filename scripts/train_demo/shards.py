"""Speech on disk. A shard is a folder:

``wav.npy`` (int16, 24 kHz), ``phones.npy`` (uint8, one per unit of 25 ms) and, written
last, ``index.json``: the phones' names, and of each utterance the start and the number
of samples, voice, text, start and end of its words in seconds.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SAMPLE_RATE = 24_000  # Hz
FRAME = 1920  # samples of one frame of codes: 80 ms
UNIT = 600  # samples that have one phone: 25 ms, the synthesisers' unit
SILENCE = 0  # as a phone
IGNORE = 255  # a unit between two words: neither silence nor a phone
LOUDNESS = 0.12  # of the parts of an utterance that are not silent

Span = tuple[float, float]  # seconds


class Spoken(NamedTuple):
    """What a synthesiser gives: sound, phones per unit, spans of the words."""

    wav: np.ndarray
    phones: np.ndarray
    words: list[Span]


class Utterance(NamedTuple):
    wav: np.ndarray  # int16
    phones: np.ndarray
    about: dict[str, Any]

    @property
    def pcm(self) -> np.ndarray:
        """float32 ``[S]`` in [-1, 1]."""
        return self.wav.astype(np.float32) / 32768


class Writer:
    """Collects utterances, at one loudness, and writes a shard."""

    def __init__(self, out: Path, names: list[str]):
        self.out, self.names = out, names
        self.wavs: list[np.ndarray] = []
        self.phones: list[np.ndarray] = []
        self.index: list[dict[str, Any]] = []
        self.samples = 0

    def add(self, said: Spoken, voice: str, text: str, **more: Any) -> None:
        wav, phones, words = said
        loud = np.sqrt((wav[np.abs(wav) > 0.02 * np.abs(wav).max()] ** 2).mean())
        wav = wav * min(LOUDNESS / loud, 0.95 / np.abs(wav).max())
        n = min(len(phones), len(wav) // UNIT)
        self.wavs.append((wav[: n * UNIT] * 32767).astype(np.int16))
        self.phones.append(phones[:n])
        entry = {"start": self.samples, "samples": n * UNIT, "voice": voice}
        self.index.append(entry | {"text": text, "words": words} | more)
        self.samples += n * UNIT

    def save(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        np.save(self.out / "wav.npy", np.concatenate(self.wavs))
        np.save(self.out / "phones.npy", np.concatenate(self.phones))
        table = {"names": self.names, "utterances": self.index}
        (self.out / "index.tmp").write_text(json.dumps(table))
        os.replace(self.out / "index.tmp", self.out / "index.json")
        minutes = round(self.samples / SAMPLE_RATE / 60, 1)
        print(self.out, len(self.index), "utterances", minutes, "min", flush=True)


def whole(shard: Path) -> bool:
    return (shard / "index.json").exists()


def utterances(shard: Path) -> Iterator[Utterance]:
    """All of a shard, memory-mapped."""
    wav = np.load(shard / "wav.npy", mmap_mode="r")
    phones = np.load(shard / "phones.npy", mmap_mode="r")
    for about in json.loads((shard / "index.json").read_text())["utterances"]:
        start, stop = about["start"], about["start"] + about["samples"]
        yield Utterance(wav[start:stop], phones[start // UNIT : stop // UNIT], about)
