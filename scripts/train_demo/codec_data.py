"""Segments of speech to train the codec on."""

import numpy as np
import torch
from align import read_alignment
from shards import DATA, FRAME, SAMPLE_RATE, load, user_shards
from torch import Tensor

SEGMENT = 39  # frames: 3.12 s
STEP = 240  # samples of one phone label: 10 ms
UNKNOWN = -100  # label where a shard has not been aligned; the loss leaves it out

Labelled = tuple[np.ndarray, np.ndarray | None]  # wav int16 [S], phones [S / STEP]


class Speech:
    """Random segments: utterances with random gaps between them, by the assistant or by
    noisy users.

    Args:
        users: share of segments with users.
        answers: how many times more often than its other sentences the assistant's
            answers come.
    """

    def __init__(self, seed: int, users: float = 0.5, answers: int = 3):
        self.users = users
        self.rng = np.random.default_rng(seed)
        self.pools: dict[str, list[Labelled]] = {"moshi": [], "user": []}
        shards = [("moshi", DATA / "moshi.npz")]
        shards += [("user", path) for path in user_shards("train")[:2]]
        for who, path in shards:
            found = read_alignment(path)
            for i, utterance in enumerate(load(path)):
                labels = found[i] if found else None
                phones = np.array(labels["phones"]) if labels else None
                times = answers if utterance.meta["kind"] == "answer" else 1
                self.pools[who] += [(utterance.wav, phones)] * times

    def _draw(self, who: str) -> Labelled:
        pool = self.pools[who]
        return pool[self.rng.integers(len(pool))]

    def segment(self, who: str) -> tuple[np.ndarray, np.ndarray]:
        """Sound float32 ``[SEGMENT * FRAME]`` and phones ``[2, SEGMENT]``."""
        rng, n = self.rng, SEGMENT * FRAME
        x = np.zeros(n, np.float32)
        y = np.zeros(n // STEP + 1, np.int64)
        wav, phones = self._draw(who)
        # Start anywhere: inside the first utterance, or in the silence before it.
        inside = rng.random() < 0.5
        high = max(1, len(wav)) if inside else SAMPLE_RATE
        t = int(rng.integers(0, high)) * (-1 if inside else 1)
        while t < n:
            first, last = max(0, t), min(n, t + len(wav))
            if last > first:
                x[first:last] += wav[first - t : last - t] / 32768
                steps = np.arange(first // STEP, last // STEP)
                y[steps] = _labels(phones, steps - t // STEP)
            t += len(wav) + int(rng.exponential(0.35) * SAMPLE_RATE)
            wav, phones = self._draw(who)
        if who == "user":
            x *= 10 ** rng.uniform(-0.7, 0.1)
            if rng.random() < 0.6:
                noise = rng.standard_normal(n).astype(np.float32)
                x += noise * 10 ** rng.uniform(-4.0, -2.3)
        # Two targets a frame, 20 ms before and after its start: a causal encoder can
        # know them.
        start = np.arange(SEGMENT) * (FRAME // STEP)
        return x, np.stack([y[np.maximum(start - 2, 0)], y[start + 2]])

    def batch(self, n: int) -> tuple[Tensor, Tensor]:
        """Sound ``[n, 1, S]``, phones ``[n, 2, SEGMENT]``."""
        who = ["user" if (i + 0.5) / n < self.users else "moshi" for i in range(n)]
        sounds, phones = zip(*map(self.segment, who), strict=True)
        return (
            torch.from_numpy(np.stack(sounds))[:, None],
            torch.from_numpy(np.stack(phones)),
        )


def _labels(phones: np.ndarray | None, steps: np.ndarray) -> np.ndarray | int:
    if phones is None:
        return UNKNOWN
    return np.where(steps < len(phones), phones[np.minimum(steps, len(phones) - 1)], 0)
