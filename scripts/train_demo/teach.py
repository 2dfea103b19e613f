"""Recordings that teach the demo one new answer, and questions to test it with.

    python teach.py --out teach                # with the synthesisers' packages
    python measure_taught.py --out teach       # with the packages of moshi_mlx
    moshi-mlx finetune --config teach.yaml
    python measure_taught.py --out teach --adapter teach/run

Random speakers ask the new question, and old ones as often, so that those are not
forgotten. What is asked afterwards is spoken by six of Kokoro's voices that neither the
demo nor this training has heard: the new question in wordings that were trained and in
others, old ones that were rehearsed and old ones that were not.
"""

import argparse
import json
import time
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path

import numpy as np
import sentencepiece
from intents import INTENTS, NAMES, VERSION_1
from shards import SAMPLE_RATE, Spoken
from texts import asked
from voices import MEASURED, VOICES, Hibari, Kokoro, random_voice

QUESTIONS = [
    *("who wrote hamlet", "who is the author of hamlet", "tell me who wrote hamlet"),
    *("do you know who wrote hamlet", "which writer wrote hamlet", "hamlet is by whom"),
    *("who was it that wrote hamlet", "name the author of hamlet"),
]
HELD_OUT = ["who was the writer of hamlet", "can you tell me who wrote hamlet"]
ANSWER = "William Shakespeare wrote Hamlet."
REHEARSED = NAMES[1 : VERSION_1 + 1 : 5]
OTHERS = NAMES[3 : VERSION_1 + 1 : 5]
ASKED = 4  # old questions of each of the two kinds, by each voice
FRAME_S = 0.08
TOKENIZER = Path(__file__).parents[2] / "moshi_mlx" / "demo" / "tokenizer_nano.model"
LENGTH_S = 8.0
LOUDNESS = 0.12


def level(sound: np.ndarray) -> np.ndarray:
    loud = sound[np.abs(sound) > 0.02 * np.abs(sound).max()]
    return sound * min(LOUDNESS / np.sqrt((loud**2).mean()), 0.95 / np.abs(sound).max())


def write(path: Path, pcm: np.ndarray) -> None:
    from scipy.io import wavfile

    wavfile.write(path, SAMPLE_RATE, (pcm.T * 32767).astype(np.int16))


def recording(question: np.ndarray, answer: Spoken, rng: np.random.Generator):
    """Both sides ``[2, S]``, the answer to the left; and when the answer begins."""
    sides = np.zeros((2, round(LENGTH_S * SAMPLE_RATE)), np.float32)
    sides += rng.normal(0, 1e-4, sides.shape).astype(np.float32)
    begin = rng.uniform(0.3, 1.2)
    end = begin + len(question) / SAMPLE_RATE
    for side, sound, at in ((1, question, begin), (0, answer.wav, end + 0.4)):
        start = round(at * SAMPLE_RATE)
        place = sides[side, start : start + len(sound)]
        place += level(sound)[: len(place)]
    return sides, end + 0.4


def alignments(
    words: list[str],
    starts: list[float],
    tokenizer: sentencepiece.SentencePieceProcessor,
) -> list[list[object]]:
    """Words with times that leave room for all their pieces and the mark before them.

    The demo learnt its text so (``Corpus.text``); a word that begins too early would
    cut off the one before it.
    """
    found: list[list[object]] = []
    t = 0
    for word, start in zip(words, starts, strict=True):
        t = max(t, int(start / FRAME_S) - 1)
        begun, count = (t + 1) * FRAME_S + 0.01, len(tokenizer.encode(word))
        found.append([word, [begun, begun + count * FRAME_S], "SPEAKER_MAIN"])
        t += count + 1
    return found


def record(out: Path, count: int, hibari: Hibari, kokoro: Kokoro) -> None:
    """Recordings to learn from, half of the new question and half of old ones."""
    rng = np.random.default_rng(1)
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(TOKENIZER))
    say = cache(partial(hibari, voice=VOICES["heart"], rng=rng))  # as trained
    lines: dict[str, list[str]] = {"train": [], "valid": []}
    for number in range(2 * count):
        text, answer = QUESTIONS[number // 2 % len(QUESTIONS)], ANSWER
        if number % 2:  # an old one
            intent = INTENTS[REHEARSED[number // 2 % len(REHEARSED)]]
            text, answer = str(rng.choice(intent.known)), intent.answer
        if number % 4 < 2:
            question = hibari(asked(text), random_voice(rng), rng).wav
        else:
            question = kokoro(asked(text), kokoro.random_voice(rng)).wav
        said = say(answer)
        sides, start = recording(question, said, rng)
        name = f"r{number:03d}"
        write(out / f"{name}.wav", sides)
        begun = [start + a for a, _ in said.words]
        words = alignments(answer.split(), begun, tokenizer)
        (out / f"{name}.json").write_text(json.dumps({"alignments": words}))
        part = "valid" if number >= 2 * count - max(2, count // 10) else "train"
        line = {"path": f"{name}.wav", "duration": LENGTH_S}
        lines[part].append(json.dumps(line) + "\n")
    for part, found in lines.items():
        (out / f"{part}.jsonl").write_text("".join(found))


def asked_with(number: int) -> Iterable[tuple[str, str, str]]:
    """Kind, question and answer of all that the voice of this number asks."""
    for kind, texts in (("new, trained wording", QUESTIONS), ("new wording", HELD_OUT)):
        for text in (texts[number % len(texts)], texts[(number + 1) % len(texts)]):
            yield kind, text, ANSWER
    for kind, names in (("old, rehearsed", REHEARSED), ("old, others", OTHERS)):
        for name in names[number % 2 :: len(names) // ASKED][:ASKED]:
            yield kind, INTENTS[name].known[0], INTENTS[name].answer


def record_questions(out: Path, kokoro: Kokoro) -> None:
    """What is measured with, by voices that were never trained on."""
    (out / "ask").mkdir(parents=True, exist_ok=True)
    rows = []
    for number, voice in enumerate(MEASURED):
        for kind, text, answer in asked_with(number):
            name = f"q{len(rows):03d}.wav"
            write(out / "ask" / name, level(kokoro(asked(text), voice).wav))
            row = {"path": name, "kind": kind, "text": text, "voice": voice}
            rows.append(row | {"wanted": answer})
    (out / "ask" / "asked.json").write_text(json.dumps(rows, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--out", type=Path, required=True)
    option("--count", type=int, default=40, help="recordings of the new question")
    option("--kokoro-model", type=Path, default=Path("kokoro.int8.onnx"))
    option("--kokoro-voices", type=Path, default=Path("voices"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    kokoro = Kokoro(args.out, args.kokoro_model, args.kokoro_voices)
    record(args.out, args.count, Hibari(args.out), kokoro)
    record_questions(args.out, kokoro)
    print(json.dumps({"cpu_s": round(time.process_time())}))


if __name__ == "__main__":
    main()
