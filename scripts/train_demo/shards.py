"""Speech and codes on disk, and what training must not find there.

A shard is a folder: ``sound.npy`` (int16 samples of 24 kHz, or codes), ``phones.npy``
(int8, one per 20 ms) and, written last, ``index.json``: of each utterance the lengths
of both, its voice and text, the start and end of its words in seconds, and more.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ear import plain
from intents import INTENTS

SAMPLE_RATE = 24_000  # Hz
FRAME = 1920  # samples of one frame of codes
FRAME_S = 0.08
GRID = 480  # samples that have one phone label: 20 ms, four labels a frame
SILENCE = 0  # as a phone
UNKNOWN = -100  # as a label: losses leave it out
TOKENIZER = Path(__file__).parents[2] / "moshi_mlx" / "demo" / "tokenizer_nano.model"
LOUDNESS = 0.12  # of the parts of an utterance that are not silent

# What training never hears: Kokoro's voices, six to measure with and three for the end,
# other people, and the wordings that are kept out.
MEASURED = ["af_nova", "am_puck", "bf_isabella", "am_michael", "bf_emma", "bm_george"]
KEPT = ["af_kore", "am_onyx", "bm_lewis", "allison", "joe"]
HELD_OUT = {" ".join(plain(q)) for i in INTENTS.values() for q in i.held_out}

Span = tuple[float, float]  # seconds


class Spoken(NamedTuple):
    """What a synthesiser gives: sound, a phone per 20 ms, spans of the words."""

    wav: np.ndarray
    phones: np.ndarray
    words: list[Span]


class Utterance(NamedTuple):
    sound: np.ndarray  # int16 [S], or codes [8, T]
    phones: np.ndarray  # int8 [S / 480], or [4, T]
    about: dict[str, Any]

    @property
    def pcm(self) -> np.ndarray:
        """float32 ``[S]`` in [-1, 1]."""
        return self.sound.astype(np.float32) / 32768


def utterance(said: Spoken, voice: str, text: str, **more: Any) -> Utterance:
    """At the loudness that all have."""
    n = min(len(said.phones), len(said.wav) // GRID)
    size = np.abs(said.wav)
    loud = np.sqrt((said.wav[size > 0.02 * size.max()] ** 2).mean())
    level = min(LOUDNESS / loud, 0.95 / size.max())
    wav = (said.wav[: n * GRID] * level * 32767).astype(np.int16)
    about = {"voice": voice, "text": text, "words": said.words} | more
    return Utterance(wav, said.phones[:n], about)


def save(shard: Path, rows: list[Utterance]) -> None:
    """Whole or, as far as ``whole`` can tell, not at all."""
    shard.mkdir(parents=True, exist_ok=True)
    np.save(shard / "sound.npy", np.concatenate([row.sound for row in rows], -1))
    np.save(shard / "phones.npy", np.concatenate([row.phones for row in rows], -1))
    sizes = ([row.sound.shape[-1], row.phones.shape[-1]] for row in rows)
    index = [row.about | {"sizes": n} for row, n in zip(rows, sizes, strict=True)]
    (shard / "index.tmp").write_text(json.dumps(index))
    os.replace(shard / "index.tmp", shard / "index.json")
    print(shard, len(rows), "utterances", flush=True)


def whole(shard: Path) -> bool:
    return (shard / "index.json").exists()


def load(shard: Path) -> list[Utterance]:
    """All of a shard, memory-mapped."""
    sound, phones = (
        np.load(shard / f"{name}.npy", mmap_mode="r") for name in ("sound", "phones")
    )
    index = json.loads((shard / "index.json").read_text())
    ends = np.cumsum([about["sizes"] for about in index], 0)[:-1].T
    parts = np.split(sound, ends[0], -1), np.split(phones, ends[1], -1)
    return [Utterance(*row) for row in zip(*parts, index, strict=True)]


def of_shard(shard: Path) -> list[Utterance]:
    """To train on: all of a shard.

    Raises: ValueError if anything there is kept for measuring.
    """
    rows = load(shard)
    for row in rows:
        voice, text = row.about["voice"], row.about["text"]
        kept = not {*MEASURED, *KEPT}.isdisjoint(voice.split("+"))
        if kept or " ".join(plain(text)) in HELD_OUT:
            raise ValueError(f"{shard}: {voice} saying {text!r} is not to train on")
    return rows


def of_kind(folder: Path, kind: str) -> list[Utterance]:
    """To train on, of all shards of a kind."""
    shards = filter(whole, sorted(folder.glob(f"{kind}_*")))
    return [row for shard in shards for row in of_shard(shard)]
