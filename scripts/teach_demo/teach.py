"""Recordings that teach the demo one new answer, and questions to test it with.

Random speakers ask the new question in ``new``, and old ones in ``old``: the demo
answers those itself and learns its own answers again, so that it keeps them. What is
asked afterwards is spoken by six of Kokoro's voices that neither the demo nor this
training has heard: the new question in wordings that were trained and in others, old
ones that were rehearsed and old ones that were not.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import sentencepiece
from scipy.io import wavfile

sys.path.insert(0, str(Path(__file__).parents[1] / "train_demo"))
from intents import INTENTS, NAMES, VERSION_1
from shards import FRAME, FRAME_S, MEASURED, SAMPLE_RATE, TOKENIZER, Spoken, level
from texts import asked
from voices import VOICES, Hibari, Kokoro, random_voice

QUESTIONS = [
    *("who wrote hamlet", "who is the author of hamlet", "tell me who wrote hamlet"),
    *("do you know who wrote hamlet", "which writer wrote hamlet", "hamlet is by whom"),
    *("who was it that wrote hamlet", "name the author of hamlet"),
]
HELD_OUT = ["who was the writer of hamlet", "can you tell me who wrote hamlet"]
ANSWER = "William Shakespeare wrote Hamlet."
OTHERS = NAMES[3 : VERSION_1 + 1 : 5]
REHEARSED = [name for name in NAMES[1:] if name not in OTHERS]
MEASURED_OLD = NAMES[1 : VERSION_1 + 1 : 5]  # of those that are rehearsed
ASKED = 4  # old questions of each of the two kinds, by each voice
SILENT = 8  # recordings of nobody, who is greeted
GAP = (4, 7)  # frames between a question and its answer, as in the demo's training
LENGTH_S = 8.0


def write(path: Path, pcm: np.ndarray) -> None:
    wavfile.write(path, SAMPLE_RATE, (pcm.T * 32767).astype(np.int16))


class Recorder:
    """Writes what somebody asks, and how the demo's voice answers."""

    def __init__(self, hibari: Hibari, kokoro: Kokoro):
        self.rng = np.random.default_rng(1)
        self.hibari, self.kokoro = hibari, kokoro
        self.tokenizer = sentencepiece.SentencePieceProcessor(str(TOKENIZER))

    def user(self, text: str) -> tuple[np.ndarray, float]:
        """A question by a random speaker ``[S]``, and when it is over, in seconds."""
        sound = self.rng.normal(0, 1e-4, round(LENGTH_S * SAMPLE_RATE))
        if not text:
            return sound, 0.0
        if self.rng.random() < 0.5:
            said = self.hibari(asked(text), random_voice(self.rng), self.rng)
        else:
            said = self.kokoro(asked(text), self.kokoro.random_voice(self.rng))
        start = round(self.rng.uniform(0.1, 1.2) * SAMPLE_RATE)
        place = sound[start : start + len(said.wav)]
        place += level(said.wav)[: len(place)]
        return sound, (start + len(said.wav)) / SAMPLE_RATE

    def both(self, text: str, answer: Spoken) -> tuple[np.ndarray, float]:
        """Both sides ``[2, S]``, the answer to the left; and when that begins.

        The left side is digital silence but for the answer, which begins with a frame:
        so its codes are the same in every recording.
        """
        user, over = self.user(text)
        start = (math.ceil(over / FRAME_S) + int(self.rng.integers(*GAP))) * FRAME
        own = np.zeros_like(user)
        place = own[start : start + len(answer.wav)]
        place += level(answer.wav)[: len(place)]
        return np.stack([own, user]), start / SAMPLE_RATE

    def alignments(self, words: list[str], starts: list[float]) -> list[list[object]]:
        """Words with times that leave room for all their pieces and the mark before.

        The demo learnt its text so (``Corpus.text``); a word that begins too early
        would cut off the one before it.
        """
        found: list[list[object]] = []
        t = 0
        for word, start in zip(words, starts, strict=True):
            t = max(t, int(start / FRAME_S) - 1)
            begun, count = (t + 1) * FRAME_S + 0.01, len(self.tokenizer.encode(word))
            times = [round(begun, 3), round(begun + count * FRAME_S, 3)]
            found.append([word, times, "SPEAKER_MAIN"])
            t += count + 1
        return found

    def new(self, folder: Path, count: int) -> None:
        """Recordings of the new question, each with its answer."""
        answer = self.hibari(ANSWER, VOICES["heart"], self.rng)  # the same in all
        for number in range(count):
            sides, start = self.both(QUESTIONS[number % len(QUESTIONS)], answer)
            write(folder / f"new{number:03d}.wav", sides)
            begun = [start + a for a, _ in answer.words]
            words = self.alignments(ANSWER.split(), begun)
            text = json.dumps({"alignments": words})
            (folder / f"new{number:03d}.json").write_text(text)

    def old(self, folder: Path, count: int) -> None:
        """Recordings of old questions, to rehearse with, and of silence."""
        for number in range(count + SILENT):
            text = ""
            if number < count:
                known = INTENTS[REHEARSED[number % len(REHEARSED)]].known
                text = str(self.rng.choice(known))
            sound, _ = self.user(text)
            write(folder / f"old{number:03d}.wav", sound[None])


def asked_with(number: int) -> Iterable[tuple[str, str, str]]:
    """Kind, question and answer of all that the voice of this number asks."""
    for kind, texts in (("new, trained wording", QUESTIONS), ("new wording", HELD_OUT)):
        for text in (texts[number % len(texts)], texts[(number + 1) % len(texts)]):
            yield kind, text, ANSWER
    for kind, names in (("old, rehearsed", MEASURED_OLD), ("old, others", OTHERS)):
        for name in names[number % 2 :: len(names) // ASKED][:ASKED]:
            yield kind, INTENTS[name].known[0], INTENTS[name].answer


def record_questions(folder: Path, kokoro: Kokoro) -> None:
    """What is measured with, by voices that were never trained on."""
    rows = []
    for number, voice in enumerate(MEASURED):
        for kind, text, answer in asked_with(number):
            name = f"q{len(rows):03d}.wav"
            write(folder / name, level(kokoro(asked(text), voice).wav))
            row = {"path": name, "kind": kind, "text": text, "voice": voice}
            rows.append(row | {"wanted": answer})
    (folder / "asked.json").write_text(json.dumps(rows, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--out", type=Path, required=True)
    option("--new", type=int, default=64, help="recordings of the new question")
    option("--old", type=int, default=154, help="recordings of old ones")
    option("--kokoro-model", type=Path, default=Path("kokoro.int8.onnx"))
    option("--kokoro-voices", type=Path, default=Path("voices"))
    args = parser.parse_args()
    for name in ("new", "old", "ask"):
        (args.out / name).mkdir(parents=True, exist_ok=True)
    kokoro = Kokoro(args.out, args.kokoro_model, args.kokoro_voices)
    recorder = Recorder(Hibari(args.out), kokoro)
    recorder.new(args.out / "new", args.new)
    recorder.old(args.out / "old", args.old)
    record_questions(args.out / "ask", kokoro)
    print(json.dumps({"cpu_s": round(time.process_time())}))


if __name__ == "__main__":
    main()
