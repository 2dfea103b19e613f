"""Token sequences for the language models, composed from ``corpus.py``'s codes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from corpus import LEAD
from moshi.models.tts import Entry, StateMachine, TokenIds
from shards import FRAME_S, TOKENIZER, UNKNOWN, Utterance, of_kind
from voices import VOICES

PAD, NEW_WORD, MAIN_SPEAKER = 3, 0, 1  # text tokens, as in Kyutai's models
ZERO = -1  # a token that embeds to zero
STT_DELAY = 12  # frames of the text after the sound: 0.96 s
TTS_DELAY = 16  # frames of the sound after the text: 1.28 s
WORD_DELAY = 8  # and about a word, for Moshi's helper
MOST_PIECES = 24  # of a sentence, that a helper is asked for
AHEAD = 2  # words that the second text stream looks ahead
PAUSES_S = (0.5, 1.0, 2.0, 3.0)
MAX_PADDING, INITIAL_PADDING = 8, 2
EXCHANGED = 0.3  # of an utterance's words, where some are others'
GREETS = (34, 38)  # frames, after which a silent user is greeted

Sequence = dict[str, np.ndarray]
Shares = dict[str, float]  # how often each kind of codes is drawn from
ASKED = {"others_known": 0.18, "kokoro_known": 0.22, "others_ways": 0.53}
ASKED |= {"kokoro_ways": 0.07}
ANYTHING = {"others_free": 0.45, "kokoro_free": 0.15, "others_ways": 0.3}
ANYTHING |= {"kokoro_known": 0.1}
HEARD = {"own_free": 0.06, "own_known": 0.04, "own_answers": 0.02, "others_free": 0.42}
HEARD |= {"kokoro_free": 0.18, "others_known": 0.06, "kokoro_known": 0.1}
HEARD |= {"others_ways": 0.12}
SPOKEN = {"own_answers": 0.2, "own_free": 0.55, "own_known": 0.25}


def in_frames(row: Utterance) -> list[tuple[int, int]]:
    """First frame and the one after the last, of each word."""
    spans = [(int(a / FRAME_S), int(b / FRAME_S)) for a, b in row.about["words"]]
    return [(a, max(a + 1, b)) for a, b in spans]


class Corpus:
    """What all sequences are drawn from."""

    KINDS: Shares
    FRAMES = 160  # of a sequence

    def __init__(self, folder: Path):
        self.rng = np.random.default_rng()
        self.tokenizer = sentencepiece.SentencePieceProcessor(str(TOKENIZER))
        self.rows = {
            kind: of_kind(folder, kind) for kind in ("background", *self.KINDS)
        }
        self.silence = self.rows["background"][0].sound[:, -1:]

    def batches(self, count: int) -> Iterator[list[Sequence]]:
        """Of so many sequences, without end."""
        while True:
            yield [self.one(self.FRAMES) for _ in range(count)]

    def draw(self, shares: Shares, mixed: float = 0.0) -> Utterance:
        """An utterance of one of the kinds; a share of them with words of others."""
        kind = self.rng.choice(list(shares), p=list(shares.values()))
        rows = self.rows[kind]
        row = rows[self.rng.integers(len(rows))]
        return self._other_words(row, rows) if self.rng.random() < mixed else row

    def _other_words(self, row: Utterance, rows: list[Utterance]) -> Utterance:
        """Some words exchanged, sound and all, for ones that others say."""
        parts, own, at, moved = [], np.concatenate(row[:2]), 0, 0
        words, spans = row.about["text"].split(), []
        for i, (first, last) in enumerate(in_frames(row)):
            first = max(first, at)
            if self.rng.random() > EXCHANGED:
                spans.append((first + moved, last + moved))
                continue
            other = rows[self.rng.integers(len(rows))]
            one = self.rng.integers(len(other.about["words"]))
            start, stop = in_frames(other)[one]
            parts += [own[:, at:first], np.concatenate(other[:2])[:, start:stop]]
            words[i] = other.about["text"].split()[one]
            spans.append((first + moved, first + moved + stop - start))
            at, moved = max(first, last), spans[-1][1] - max(first, last)
        about = row.about | {"text": " ".join(words), "end": row.about["end"] + moved}
        about["words"] = [(a * FRAME_S + 1e-3, b * FRAME_S + 1e-3) for a, b in spans]
        mixed = np.concatenate([*parts, own[:, at:]], 1)
        return Utterance(mixed[:8], mixed[8:], about)

    def _other_tempo(self, row: Utterance) -> Utterance:
        """Up to a sixth faster or slower, by frames left out or told twice."""
        n = row.sound.shape[1]
        kept = np.arange(0, n, self.rng.uniform(0.85, 1.17)).astype(int)
        moved = np.searchsorted(kept, np.arange(n + 1))

        def at(seconds: float) -> float:
            return float(moved[min(n, int(seconds / FRAME_S))]) * FRAME_S + 1e-3

        about = dict(row.about, end=int(moved[row.about["end"]]))
        about["words"] = [(at(a), at(b)) for a, b in about["words"]]
        return Utterance(row.sound[:, kept], row.phones[:, kept], about)

    def late(self, phones: np.ndarray) -> np.ndarray:
        wait = ((0, 0), (self.THINKS, 0))
        return np.pad(phones, wait, constant_values=UNKNOWN)[:, : -self.THINKS]

    def noise(self, frames: int) -> np.ndarray:
        return self.cycle(self.draw({"background": 1.0}).sound, frames)

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
    """Moshi: 17 streams, and what its helpers are asked for.

    In some rows nobody answers, and only the helpers learn: in ``DENSE`` ones questions
    follow each other, in ``FREE`` ones people say anything.
    """

    KINDS = ASKED | ANYTHING | {"own_answers": 1.0}
    THINKS = 2  # frames, about a phone
    FREE, DENSE = 0.2, 0.5  # shares of the rows
    WARPED, MISSING, STOPS = 0.6, 0.3, 0.3  # shares of the questions

    def __init__(self, folder: Path):
        super().__init__(folder)
        # Of each answer the rendition that is heard best: the last one here.
        rows = sorted(self.rows["own_answers"], key=lambda row: -row.about["wrong"])
        self.answers = {row.about["intent"]: row for row in rows}

    def one(self, frames: int) -> Sequence:
        """``tokens [17, T]``; for the helpers ``asked`` (the intent) and ``pieces``
        (the words as a set), both between a question and its answer, ``words`` (in
        order) and ``phones``; ``speaking``, where the sound is worth learning;
        ``reply``: there are answers."""
        rng = self.rng
        free = rng.random() < self.FREE
        reply = not free and rng.random() > self.DENSE
        silence, noise = np.repeat(self.silence, frames, 1), self.noise(frames)
        self.tokens = np.concatenate([np.full((1, frames), PAD), silence, noise])
        self.speaking = np.zeros(frames, bool)
        self.phones = np.zeros((4, frames), np.int64)
        self.words = np.full(frames, PAD)
        asked = np.full(frames, UNKNOWN)
        pieces = np.full((MOST_PIECES, frames), UNKNOWN)
        t, first = int(rng.integers(0, 20)), True
        if reply and rng.random() < 0.12:  # nobody asks at first
            t = self._answer(int(rng.integers(*GREETS)), 0) + int(rng.integers(4, 30))
            first = False
        while t < frames - 14:
            row = self.draw(ANYTHING, 0.5) if free else self.draw(ASKED)
            if row.about["fresh"] and not first:
                continue
            row = self._other_tempo(row) if rng.random() < self.WARPED else row
            over = self._ask(row, 0 if row.about["fresh"] else max(0, t - LEAD))
            first, t = False, over + int(rng.integers(4, 7))
            if t > frames - 10:
                break
            own = self.tokenizer.encode(row.about["text"].lower())[:MOST_PIECES]
            pieces[: len(own), over + 1 : t] = np.array(own)[:, None]
            if not free:
                asked[over:t] = row.about["intent"]
            if not reply:
                t += int(rng.integers(0, 8))
                continue
            end = self._answer(t, row.about["intent"])
            if rng.random() < self.STOPS and end < frames:  # the user interrupts
                t = int(rng.integers(t + 6, max(t + 7, end - 4)))
                stop = t + int(rng.integers(4, 7))
                self.tokens[0, stop:], self.tokens[1:9, stop:] = PAD, self.silence
                self.speaking[stop:] = False
            else:
                pause = (30, 125) if rng.random() < 0.5 else (6, 30)  # no greeting
                t = end + int(rng.integers(*pause))
        asks = {"asked": asked, "pieces": pieces, "words": self.words}
        asks |= {"phones": self.late(self.phones), "speaking": self.speaking}
        return {"tokens": self.tokens, "reply": np.array([reply])} | asks

    def _ask(self, row: Utterance, start: int) -> int:
        """Speech of the user from frame ``start`` on; returns the frame of its end."""
        rng, frames = self.rng, self.tokens.shape[1]
        n = min(row.sound.shape[1], frames - start)
        self.tokens[9:, start : start + n] = row.sound[:, :n]
        self.phones[:, start : start + n] = row.phones[:, :n]
        words = self.text(row.about, n + WORD_DELAY + 8, WORD_DELAY)[: frames - start]
        self.words[start : start + len(words)] = words
        over = start + row.about["end"]
        if rng.random() < self.MISSING:
            gap = int(rng.integers(start, max(start + 1, min(over, frames))))
            self.tokens[9:, gap : gap + int(rng.integers(1, 4))] = ZERO
        tail = row.sound[:, row.about["end"] + 3 :]
        if over + 3 < frames:  # the same noise goes on
            self.tokens[9:, over + 3 :] = self.cycle(tail, frames - over - 3)
        return over

    def _answer(self, t: int, intent: int) -> int:
        """Speak from frame ``t`` on; returns the frame in which it ends."""
        codes, _, about = self.answers[intent]
        start, frames = t - LEAD, self.tokens.shape[1]
        n = min(codes.shape[1], frames - start)
        text = self.text(about, codes.shape[1], 0)
        self.tokens[0, start : start + n] = text[:n]
        self.tokens[1:9, start : start + n] = codes[:, :n]
        self.speaking[t - 3 : start + n] = True
        return start + about["end"]


class Dictation(Corpus):
    """STT: 9 streams, and what its helper and pause heads are asked for."""

    KINDS, THINKS = HEARD, 4

    def one(self, frames: int) -> Sequence:
        """``tokens [9, T]``; ``pauses [4, T]``: 0 while a pause so long is under way;
        ``phones``."""
        rng = self.rng
        tokens = np.concatenate([np.full((1, frames), PAD), self.noise(frames)])
        spoken, phones = np.zeros(frames, bool), np.zeros((4, frames), np.int64)
        t, free = int(rng.integers(0, 13)), 0
        while t < frames - 8:
            row = self.draw(HEARD, 0.4)
            row = self._other_tempo(row) if rng.random() < 0.5 else row
            codes, kinds, about = row
            n = min(codes.shape[1], frames - t)
            tokens[1:, t : t + n] = codes[:, :n]
            phones[:, t : t + n] = kinds[:, :n]
            text = self.text(about, codes.shape[1] + STT_DELAY + 8, STT_DELAY)
            first = max(t, free)  # not over the last words of the one before
            n = min(len(text), frames - t)
            tokens[0, first : t + n] = text[first - t : n]
            free = t + int(np.flatnonzero(text != PAD)[-1]) + 1
            spoken[t + about["lead"] : t + about["end"]] = True
            gap = rng.exponential(0.8) if rng.random() < 0.8 else rng.uniform(1, 4)
            t += codes.shape[1] + int(gap / FRAME_S)
        pauses = np.ones((len(PAUSES_S), frames), np.int64)
        edges = np.flatnonzero(np.diff(np.concatenate([[1], spoken, [1]]).astype(int)))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            for head, seconds in enumerate(PAUSES_S):
                if (end - start) * FRAME_S >= seconds or end == frames:
                    pauses[head, start + int(seconds / FRAME_S) : end] = 0
        return {"tokens": tokens, "pauses": pauses, "phones": self.late(phones)}


class Script(Corpus):
    """TTS: 9 streams as the state machine of delayed streams feeds them."""

    KINDS, FRAMES = SPOKEN, 130

    def batches(self, count: int) -> Iterator[list[Sequence]]:
        """Of like lengths, so that little is padding."""
        while True:
            rows = [self.one(self.FRAMES) for _ in range(8 * count)]
            rows.sort(key=self._length)
            for k in self.rng.permutation(8):
                some = rows[k * count : (k + 1) * count]
                n = self._length(some[-1])
                yield [{name: x[..., :n] for name, x in row.items()} for row in some]

    def _length(self, row: Sequence) -> int:
        """Up to a few frames of the silence at the end."""
        return int((row["tokens"][1:] != self.silence).any(0).nonzero()[0][-1]) + 4

    def one(self, frames: int) -> Sequence:
        """``tokens [9, T]``; ``goal [T]``: what the machine asks for, a new word or
        padding; ``voice [1]``; ``phones`` that are spoken."""
        codes, kinds, about = self.draw(SPOKEN)
        starts = [int(a / FRAME_S) for a, _ in about["words"]]
        cut = max(0, starts[0] - INITIAL_PADDING - 1)
        codes, kinds = codes[:, cut:], kinds[:, cut:]
        due = [start - cut for start in (*starts, about["end"])]
        words = about["text"].split()
        entries = [Entry(self.tokenizer.encode(word), word) for word in words]
        entries[0].tokens.insert(0, MAIN_SPEAKER)
        ids = TokenIds(self.tokenizer.get_piece_size() + 1)
        machine = StateMachine(ids, AHEAD, MAX_PADDING, INITIAL_PADDING)
        state = machine.new_state(entries)
        tokens = np.full((9, frames), ZERO)
        goal = np.full(frames, UNKNOWN)
        for step in range(frames):
            free = not (state.queued or state.forced_padding or state.end_step)
            done = len(entries) - len(state.entries)
            word = step >= due[done] or state.remaining_padding <= 0
            if free:
                goal[step] = NEW_WORD if word else PAD
            wish = NEW_WORD if word and free else PAD
            tokens[0, step], _ = machine.process(step, state, wish)
        n = min(codes.shape[1], frames - TTS_DELAY)
        tokens[1:, TTS_DELAY : TTS_DELAY + n] = codes[:, :n]
        tokens[1:, TTS_DELAY + n :] = self.silence
        phones = np.zeros((4, frames), np.int64)
        phones[:, TTS_DELAY : TTS_DELAY + n] = kinds[:, :n]
        voice = np.array([list(VOICES).index(about["voice"])])
        return {"tokens": tokens, "goal": goal, "voice": voice, "phones": phones}
