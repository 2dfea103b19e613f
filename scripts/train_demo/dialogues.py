"""Dialogues to train the language model on, composed on the fly from encoded speech.

Silence, a question by a random user, a short gap, the answer with its text (the inner
monologue), further turns. A user who is silent at first is greeted, once.
"""

import numpy as np
import torch
from encode import LEAD, NOISE, PAD, TAIL
from intents import NAMES
from shards import DATA
from torch import Tensor

GREETING_AT = (34, 38)  # frames: after some 2.8 s of silence
NO_INTENT = -1  # target of a frame that does not follow a question

User = tuple[np.ndarray, int, int]  # codes [8, T], intent, frame in which it ends
Dialogue = tuple[np.ndarray, np.ndarray, np.ndarray]


class Dialogues:
    """Batches of token sequences ``[17, T]``: text, 8 own and 8 user codebooks.

    Args:
        frames: length T.
        split: whose questions.
        warp: chance to drop, and to repeat, each frame of a question: other tempi.
    """

    def __init__(
        self, seed: int, frames: int = 160, split: str = "train", warp: float = 0.0
    ):
        self.rng, self.frames, self.warp = np.random.default_rng(seed), frames, warp
        table = np.load(DATA / "codes.npz")
        bounds = table["answer_bounds"]
        answers = table["answers"].astype(np.int64)
        self.answers = np.split(answers, bounds[1:-1], axis=1)
        assert len(self.answers) == len(NAMES)
        self.silence = table["silence"].astype(np.int64)
        self.noise = table["noise_bank"].astype(np.int64)
        codes = np.split(table[split], table[f"{split}_bounds"][1:-1], axis=1)
        self.by_level: list[list[User]] = [[] for _ in NOISE]
        for code, (intent, level, end) in zip(
            codes, table[f"{split}_meta"], strict=True
        ):
            self.by_level[level].append((code, int(intent), int(end)))

    def _background(self, level: int) -> np.ndarray:
        """Nobody says anything: ``[17, T]``."""
        rng, t = self.rng, self.frames
        tokens = np.empty((17, t), np.int64)
        tokens[0] = PAD
        tokens[1:9] = self.silence[:, None]
        start = 0  # as at the start of a stream
        if rng.random() < 0.5:
            start = int(rng.integers(0, self.noise.shape[2] - t))
        tokens[9:] = self.noise[level][:, start : start + t]
        return tokens

    def _question(self, level: int) -> User:
        pool = self.by_level[level]
        codes, intent, end = pool[self.rng.integers(len(pool))]
        if self.warp:
            odds = [self.warp, 1 - 2 * self.warp, self.warp]
            times = self.rng.choice([0, 1, 2], codes.shape[1], p=odds)
            codes, end = np.repeat(codes, times, 1), int(times[:end].sum())
        return codes, intent, end

    def dialogue(self) -> Dialogue:
        """Tokens ``[17, T]``; which intent each frame between a question and its answer
        follows ``[T]``; where the assistant speaks ``[T]``."""
        rng, frames = self.rng, self.frames
        level = int(rng.integers(0, len(NOISE)))
        tokens = self._background(level)
        target, speaking = np.full(frames, NO_INTENT), np.zeros(frames, bool)

        def answer(t: int, intent: int) -> int:
            """Speak from frame t on; returns the frame after the speech."""
            said, start = self.answers[intent], t - LEAD
            n = min(said.shape[1], frames - start)
            tokens[:9, start : start + n] = said[:, :n]
            speaking[t - 3 : start + n] = True
            return t + said.shape[1] - LEAD - TAIL

        if rng.random() < 0.15:
            t = answer(int(rng.integers(*GREETING_AT)), 0) + int(rng.integers(4, 30))
            if rng.random() < 0.25:
                return tokens, target, speaking
        else:
            t = int(rng.integers(2, 28))
        while t < frames - 12:
            codes, intent, end = self._question(level)
            start = t - LEAD  # the speech starts at about t
            cut = max(0, -start)
            n = min(codes.shape[1], frames - start)
            tokens[9:, start + cut : start + n] = codes[:, cut:n]
            over = start + end
            if over >= frames:
                break
            t = over + int(rng.integers(4, 7))
            target[over : min(t, frames)] = intent
            if t >= frames - 3:
                break
            pause = (6, 20) if rng.random() < 0.8 else (20, 50)
            t = answer(t, intent) + int(rng.integers(*pause))
        return tokens, target, speaking

    def batch(self, n: int) -> list[Tensor]:
        """``[n, 17, T]``, ``[n, T]``, ``[n, T]``."""
        parts = zip(*[self.dialogue() for _ in range(n)], strict=True)
        return [torch.from_numpy(np.stack(part)) for part in parts]
