"""Token sequences for the language models, composed from ``corpus.py``'s codes."""

import json
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sentencepiece
from codec_data import UNKNOWN
from corpus import LEAD, NEW_WORD, PAD
from voices import VOICES

FRAME_S = 0.08
ZERO = -1  # a token that embeds to zero
STT_DELAY = 12  # frames of the text after the sound: 0.96 s
TTS_DELAY = 16  # frames of the sound after the text: 1.28 s
PHONE_DELAY = {"moshi": 2, "stt": 4}  # frames in which to think about a phone
WORD_DELAY = 8  # and about a word, for Moshi's helper
MOST_PIECES = 24  # of a sentence, that a helper is asked for
AHEAD = 2  # words that the second text stream looks ahead
PAUSES_S = (0.5, 1.0, 2.0, 3.0)
MAIN_SPEAKER, MAX_PADDING, INITIAL_PADDING = 1, 8, 2
# How often a file is drawn from; kokoro and asked: the natural voices of two of them.
HEARD = {"speech": 0.1, "lines": 0.14, "heard": 0.36, "kokoro": 0.18}
HEARD |= {"questions": 0.08, "asked": 0.14}
ASKED = {"questions": 0.3, "asked": 0.25, "ways": 0.45}
SPOKEN = {"answers": 0.1, "speech": 0.55, "lines": 0.35}
GREETS = (34, 38)  # frames, after which a silent user is greeted


class Row(NamedTuple):
    codes: np.ndarray  # [8, T]
    phones: np.ndarray  # [4, T]
    about: dict[str, Any]


def read(path: Path) -> list[Row]:
    """A file of ``corpus.py``, and its further parts."""
    parts = sorted(path.parent.glob(f"{path.stem}_*.npz"))
    return [row for part in (path, *parts) if part.exists() for row in rows(part)]


def rows(path: Path) -> list[Row]:
    table = np.load(path)
    cuts = table["bounds"][1:-1]
    parts = (table[name].astype(np.int64) for name in ("codes", "phones"))
    codes, phones = (np.split(part, cuts, axis=1) for part in parts)
    meta = json.loads(str(table["meta"]))
    return [Row(*row) for row in zip(codes, phones, meta, strict=True)]


def late(phones: np.ndarray, frames: int) -> np.ndarray:
    """``[4, T]``, so many frames later."""
    moved = np.roll(phones, frames, 1)
    moved[:, :frames] = UNKNOWN
    return moved


class Corpus:
    """What all sequences are drawn from."""

    FILES: tuple[str, ...] = ()

    def __init__(self, folder: Path, seed: int):
        self.rng = np.random.default_rng(seed)
        tokenizer = str(folder / "tokenizer.model")
        self.tokenizer = sentencepiece.SentencePieceProcessor(tokenizer)
        self.rows = {name: read(folder / f"{name}.npz") for name in self.FILES}
        background = read(folder / "background.npz")
        self.silence = background[0].codes[:, -1:]
        self.background = [row.codes for row in background]

    def split(self, name: str, natural: str) -> None:
        """Keep the natural voices of a file under a name of their own."""
        ours, theirs = [], []
        for row in self.rows[name]:
            own = row.about["voice"] in ("other", "old", "espeak")
            (ours if own else theirs).append(row)
        self.rows[name], self.rows[natural] = ours, theirs

    def draw(self, shares: dict[str, float]) -> Row:
        name = str(self.rng.choice(list(shares), p=list(shares.values())))
        return self.rows[name][self.rng.integers(len(self.rows[name]))]

    def noise(self, frames: int) -> np.ndarray:
        codes = self.background[self.rng.integers(len(self.background))]
        return self.cycle(codes, frames)

    def cycle(self, codes: np.ndarray, frames: int) -> np.ndarray:
        start = self.rng.integers(0, codes.shape[1])
        return np.take(codes, np.arange(start, start + frames) % codes.shape[1], 1)

    def text(self, about: dict[str, Any], frames: int, shift: int) -> np.ndarray:
        """Words at their times plus ``shift`` frames: NEW_WORD, then the pieces."""
        row, t = np.full(frames, PAD, np.int64), 0
        for word, (start, _) in zip(about["text"].split(), about["words"], strict=True):
            t = max(t, int(start / FRAME_S) + shift - 1)
            tokens = [NEW_WORD, *self.tokenizer.encode(word)]
            row[t : t + len(tokens)] = tokens[: max(0, frames - t)]
            t += len(tokens)
        return row


class Dialogues(Corpus):
    """Moshi: 17 streams; and what its helpers are asked for: the intent, the pieces of
    the question's words as a set, the user's words in order, the user's phones. Who
    speaks when tells where the sound is worth learning.

    In some rows people say anything, with nothing to answer (``free``): only the
    helpers learn from these.
    """

    FILES = ("answers", "questions", "ways", "heard")
    FREE, WARPED, MISSING, STOPS = 0.2, 0.6, 0.3, 0.3  # shares

    def __init__(self, folder: Path, seed: int):
        super().__init__(folder, seed)
        self.split("questions", "asked")

    def one(self, frames: int) -> tuple[np.ndarray, ...]:
        rng, free = self.rng, self.rng.random() < self.FREE
        silence, noise = np.repeat(self.silence, frames, 1), self.noise(frames)
        self.tokens = np.concatenate([np.full((1, frames), PAD), silence, noise])
        self.speaking = np.zeros(frames, bool)
        asked, words = np.full(frames, UNKNOWN), np.full(frames, PAD)
        pieces = np.full((MOST_PIECES, frames), UNKNOWN)
        phones = np.zeros((4, frames), np.int64)
        t = int(rng.integers(0, 20))
        first = rng.random() > 0.12
        if not first:  # nobody asks at first
            t = self._answer(int(rng.integers(*GREETS)), 0) + int(rng.integers(4, 30))
        while t < frames - 14:
            row = self.draw({"heard": 1.0} if free else ASKED)
            if row.about["fresh"] and not first:
                continue
            row = self._other_tempo(row) if rng.random() < self.WARPED else row
            start = 0 if row.about["fresh"] else max(0, t - LEAD)
            first = False
            n = min(row.codes.shape[1], frames - start)
            self.tokens[9:, start : start + n] = row.codes[:, :n]
            phones[:, start : start + n] = row.phones[:, :n]
            said = self.text(row.about, n + WORD_DELAY + 8, WORD_DELAY)[
                : frames - start
            ]
            words[start : start + len(said)] = said
            over = start + row.about["end"]
            if rng.random() < self.MISSING:
                gap = int(rng.integers(start, max(start + 1, min(over, frames))))
                self.tokens[9:, gap : gap + int(rng.integers(1, 4))] = ZERO
            tail = row.codes[:, row.about["end"] + 3 :]
            if over + 3 < frames:  # the same noise goes on
                self.tokens[9:, over + 3 :] = self.cycle(tail, frames - over - 3)
            t = over + int(rng.integers(4, 7))
            if t > frames - 10:
                break
            own = self.tokenizer.encode(row.about["text"].lower())[:MOST_PIECES]
            pieces[: len(own), over + 1 : t] = np.array(own)[:, None]
            if free:
                t += int(rng.integers(0, 12))
                continue
            asked[over:t] = row.about["intent"]
            end = self._answer(t, row.about["intent"])
            if rng.random() < self.STOPS and end < frames:  # the user interrupts
                t = int(rng.integers(t + 6, max(t + 7, end - 4)))
                self._stop(t + int(rng.integers(4, 7)))
            else:
                t = end + int(rng.integers(6, 30))
        reply = np.array([not free])
        late_phones = late(phones, PHONE_DELAY["moshi"])
        return self.tokens, asked, self.speaking, reply, words, pieces, late_phones

    def _other_tempo(self, row: Row) -> Row:
        """Up to a sixth faster or slower, by frames left out or told twice."""
        n = row.codes.shape[1]
        kept = np.arange(0, n, self.rng.uniform(0.85, 1.17)).astype(int)
        moved = np.searchsorted(kept, np.arange(n + 1))

        def at(seconds: float) -> float:
            return float(moved[min(n, int(seconds / FRAME_S))]) * FRAME_S + 1e-3

        about = dict(row.about, end=int(moved[row.about["end"]]))
        about["words"] = [(at(a), at(b)) for a, b in about["words"]]
        return Row(row.codes[:, kept], row.phones[:, kept], about)

    def _answer(self, t: int, intent: int) -> int:
        """Speak from frame ``t`` on; returns the frame in which it ends."""
        codes, _, about = self.rows["answers"][intent]  # the first ones are by heart
        start, frames = t - LEAD, self.tokens.shape[1]
        n = min(codes.shape[1], frames - start)
        text = self.text(about, codes.shape[1], 0)
        self.tokens[0, start : start + n] = text[:n]
        self.tokens[1:9, start : start + n] = codes[:, :n]
        self.speaking[t - 3 : start + n] = True
        return start + about["end"]

    def _stop(self, t: int) -> None:
        """Fall silent from frame ``t`` on."""
        self.tokens[0, t:] = PAD
        self.tokens[1:9, t:] = self.silence
        self.speaking[t:] = False


class Dictation(Corpus):
    """STT: 9 streams; for each pause head and frame whether such a pause is under way;
    the phones, for the helper."""

    FILES = ("speech", "lines", "heard", "questions")

    def __init__(self, folder: Path, seed: int):
        super().__init__(folder, seed)
        self.split("heard", "kokoro")
        self.split("questions", "asked")

    def one(self, frames: int) -> tuple[np.ndarray, ...]:
        rng = self.rng
        tokens = np.concatenate([np.full((1, frames), PAD), self.noise(frames)])
        spoken, phones = np.zeros(frames, bool), np.zeros((4, frames), np.int64)
        t, free = int(rng.integers(0, 13)), 0
        while t < frames - 8:
            codes, kinds, about = self.draw(HEARD)
            n = min(codes.shape[1], frames - t)
            tokens[1:, t : t + n] = codes[:, :n]
            phones[:, t : t + n] = kinds[:, :n]
            text = self.text(about, codes.shape[1] + STT_DELAY + 8, STT_DELAY)
            first = max(t, free)  # not over the last words of the one before
            n = min(len(text), frames - t)
            tokens[0, first : t + n] = text[first - t : n]
            used = np.flatnonzero(text != PAD)
            free = t + int(used[-1]) + 1 if len(used) else t
            spoken[t + about["lead"] : t + about["end"]] = True
            gap = rng.exponential(0.8) if rng.random() < 0.8 else rng.uniform(1, 4)
            t += codes.shape[1] + int(gap / FRAME_S)
        pauses = np.ones((len(PAUSES_S), frames), np.int64)
        edges = np.flatnonzero(np.diff(np.concatenate([[1], spoken, [1]]).astype(int)))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            for head, seconds in enumerate(PAUSES_S):
                if (end - start) * FRAME_S >= seconds or end == frames:
                    pauses[head, start + int(seconds / FRAME_S) : end] = 0
        return tokens, pauses, late(phones, PHONE_DELAY["stt"])


class Script(Corpus):
    """TTS: 9 streams as the state machine of DSM feeds them; what it asks for; the
    voice; the phones that are spoken, for the helper."""

    FILES = ("answers", "speech", "lines")

    def one(self, frames: int) -> tuple[np.ndarray, ...]:
        codes, kinds, about = self.draw(SPOKEN)
        card = self.tokenizer.get_piece_size() + 1
        starts = [int(a / FRAME_S) for a, _ in about["words"]]
        cut = max(0, starts[0] - INITIAL_PADDING - 1)
        codes, kinds = codes[:, cut:], kinds[:, cut:]
        starts = [s - cut for s in starts]
        pieces = [self.tokenizer.encode(word) for word in about["text"].split()]
        pieces[0].insert(0, MAIN_SPEAKER)
        wait = deque(zip(starts, range(len(pieces)), strict=True))
        tokens = np.full((9, frames), ZERO)
        goal = np.full(frames, UNKNOWN)
        queue, ahead, left, over = deque(), deque(), INITIAL_PADDING, False
        for step in range(frames):
            free = not queue and step >= INITIAL_PADDING
            due = step >= (wait[0][0] if wait else about["end"] - cut)
            word = free and (due or left <= 0) and not over
            if free and not over:
                goal[step] = NEW_WORD if word else PAD
            second = ZERO
            if word and wait:
                _, i = wait.popleft()
                queue.extend(pieces[i])
                ahead.extend(pieces[i + AHEAD] if i + AHEAD < len(pieces) else [])
                left = MAX_PADDING
            elif word:
                over = True
            else:
                left -= 1
            first = queue.popleft() if queue else PAD
            if word:
                second = NEW_WORD
            elif ahead:
                second = ahead.popleft()
            tokens[0, step] = (second + 1) * card + first
        n = min(codes.shape[1], frames - TTS_DELAY)
        tokens[1:, TTS_DELAY : TTS_DELAY + n] = codes[:, :n]
        tokens[1:, TTS_DELAY + n :] = self.silence
        phones = np.zeros((4, frames), np.int64)
        phones[:, TTS_DELAY : TTS_DELAY + n] = kinds[:, :n]
        voice = np.array(list(VOICES).index(about["voice"]))
        return tokens, goal, voice, phones
