"""Segments of speech to train the codec on: what it hears, should say, and phones."""

from pathlib import Path

import numpy as np
import torch
from damage import damage
from shards import FRAME, IGNORE, SAMPLE_RATE, UNIT, Utterance, utterances, whole
from torch import Tensor

SEGMENT = 39  # frames: 3.12 s
SAMPLES = SEGMENT * FRAME
GRID = 480  # samples from one phone label to the next: 20 ms, four labels a frame
UNKNOWN = -100  # as a label: the loss leaves it out

# Shares of the pools: of what is spoken and not by the assistant, and of what is heard.
SPOKEN = {"further": 0.1, "other": 0.35, "kokoro": 0.45, "old": 0.1}
HEARD = {"kokoro": 0.5, "other": 0.32, "old": 0.1, "heart": 0.08}


def pools(folder: Path) -> dict[str, list[Utterance]]:
    """Utterances of all whole shards of a folder, by kind of speaker."""
    found: dict[str, list[Utterance]] = {}
    for shard in filter(whole, sorted(folder.iterdir())):
        for utterance in utterances(shard):
            pool = utterance.about["voice"]
            if "answer" in utterance.about:
                pool = "answer" if pool == "heart" else "further"
            elif pool not in ("heart", "other", "old"):
                pool = "kokoro"
            found.setdefault(pool, []).append(utterance)
    return found


class Speech:
    """Batches of segments.

    Two kinds: *spoken* ones, which the decoder has to say again (mostly the assistant's
    voice), and *heard* ones, by anybody and damaged, of which only the phones and the
    clean spectrum have to be in the codes.

    Args:
        others: share of the spoken segments that are not in the assistant's voice.
    """

    def __init__(self, folder: Path, seed: int, others: float):
        self.rng, self.others = np.random.default_rng(seed), others
        self.pools = pools(folder)

    def _pool(self, spoken: bool) -> str:
        if spoken and self.rng.random() > self.others:
            name = "answer" if self.rng.random() < 0.2 else "heart"
        else:
            shares = SPOKEN if spoken else HEARD
            name = str(self.rng.choice(list(shares), p=list(shares.values())))
        return name if name in self.pools else "other"

    def _draw(self, pool: str, tempo: float) -> tuple[np.ndarray, np.ndarray]:
        """Sound and phones, one per 20 ms, faster (and higher) by ``tempo``."""
        rows = self.pools[pool]
        utterance = rows[self.rng.integers(len(rows))]
        x, kinds = utterance.pcm, utterance.phones
        if tempo != 1:
            n = len(x)
            x = np.interp(np.arange(int(n / tempo)) * tempo, np.arange(n), x)
        at = (np.arange(len(x) // GRID) + 0.5) * GRID * tempo / UNIT
        return x.astype(np.float32), kinds[at.astype(int).clip(0, len(kinds) - 1)]

    def segment(self, spoken: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is heard, what was clean (both ``[SAMPLES]``), and the phones."""
        rng, pool = self.rng, self._pool(spoken)
        tempo = 1.0 if spoken else float(rng.uniform(0.86, 1.16))
        clean = np.zeros(SAMPLES, np.float32)
        kinds = np.zeros(SAMPLES // GRID, np.int64)
        x, phones = self._draw(pool, tempo)
        # Start inside the first utterance, or in the silence before it.
        inside = rng.random() < 0.6
        t = -rng.integers(0, len(x) // GRID) if inside else rng.integers(0, 50)
        while t < len(kinds):  # t counts labels, so sound and labels stay together
            first, last = max(0, t), min(len(kinds), t + len(phones))
            if last > first:
                piece = x[(first - t) * GRID : (last - t) * GRID]
                clean[first * GRID : first * GRID + len(piece)] += piece
                kinds[first:last] = phones[first - t : last - t]
            t += len(phones) + int(rng.exponential(0.3) * SAMPLE_RATE / GRID)
            x, phones = self._draw(pool, tempo)
        kinds[kinds == IGNORE] = UNKNOWN
        if not spoken:
            return damage(clean, rng), clean, kinds
        clean *= 10 ** rng.uniform(-0.35, 0.15)
        if rng.random() > 0.3:
            return clean, clean, kinds
        noise = rng.standard_normal(SAMPLES).astype(np.float32)
        return clean + noise * np.float32(10 ** rng.uniform(-4.2, -2.6)), clean, kinds

    def batch(self, spoken: int, heard: int) -> tuple[Tensor, Tensor, Tensor]:
        """The spoken first: ``[B, 1, S]``, ``[B, 1, S]``, ``[B, 4 * SEGMENT]``."""
        rows = [self.segment(i < spoken) for i in range(spoken + heard)]
        parts = [torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True)]
        return parts[0][:, None], parts[1][:, None], parts[2]
