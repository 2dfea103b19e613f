"""Teach the demo one new answer, and hear whether it learnt it and kept the old ones.

    python teach.py record --out teach                 # with the synthesisers' packages
    moshi-mlx finetune --model demo --data teach --adapter-path teach/run \
        --window 8 --iters 150 --grad-accumulation-steps 4 --learning-rate 3e-4
    python teach.py measure --out teach                # with the packages of moshi_mlx
    python teach.py measure --out teach --adapter teach/run

``record`` writes stereo recordings in which random speakers ask the new question, and
as many in which they ask old ones, so that those are not forgotten. The voices that
``measure`` asks with are never trained on: Kokoro's. What is heard is judged by an ear
of its own, pocketsphinx with a grammar of all answers.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from intents import INTENTS
from shards import SAMPLE_RATE, Spoken

if TYPE_CHECKING:
    from voices import Kokoro

sys.path.insert(0, str(Path(__file__).parents[2]))  # the package, and the tests' ear

QUESTIONS = [
    *("who wrote hamlet", "who is the author of hamlet", "tell me who wrote hamlet"),
    *("do you know who wrote hamlet", "which writer wrote hamlet", "hamlet is by whom"),
]
HELD_OUT = ["who was the writer of hamlet", "can you tell me who wrote hamlet"]
ANSWER = "William Shakespeare wrote Hamlet."
OLD = ("hello", "name", "how", "joke", "weather", "thanks", "france")
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


def record(out: Path, count: int) -> None:
    """Recordings to learn from and, in other voices and wordings, to ask with."""
    from voices import VOICES, Hibari, random_voice

    out.mkdir(parents=True, exist_ok=True)
    rng, hibari = np.random.default_rng(1), Hibari(out)
    answers = {text: hibari(text, VOICES["heart"], rng) for text in asked_for()}
    lines: dict[str, list[str]] = {"train": [], "valid": []}
    for number in range(2 * count):
        text, answer = QUESTIONS[number % len(QUESTIONS)], ANSWER
        if number % 2:  # an old one
            intent = INTENTS[OLD[number // 2 % len(OLD)]]
            text, answer = str(rng.choice(intent.known)), intent.answer
        question = hibari(text, random_voice(rng), rng).wav
        sides, start = recording(question, answers[answer], rng)
        name = f"r{number:03d}"
        write(out / f"{name}.wav", sides)
        said = zip(answer.split(), answers[answer].words, strict=True)
        words = [[w, [start + a, start + b], "SPEAKER_MAIN"] for w, (a, b) in said]
        (out / f"{name}.json").write_text(json.dumps({"alignments": words}))
        part = "valid" if number >= 2 * count - max(2, count // 10) else "train"
        line = {"path": f"{name}.wav", "duration": LENGTH_S}
        lines[part].append(json.dumps(line) + "\n")
    for part, found in lines.items():
        (out / f"{part}.jsonl").write_text("".join(found))


def asked_for() -> list[str]:
    return [ANSWER, *(INTENTS[name].answer for name in OLD)]


def record_questions(out: Path, kokoro: "Kokoro") -> None:
    """What is measured with: Kokoro's voices, held-out wordings."""
    from voices import MEASURED

    (out / "ask").mkdir(parents=True, exist_ok=True)
    asked = []
    for number, voice in enumerate(MEASURED):
        texts = [(HELD_OUT[number % 2], ANSWER)]
        texts += [(INTENTS[name].held_out[0], INTENTS[name].answer) for name in OLD]
        for text, answer in texts:
            name = f"q{len(asked):03d}.wav"
            write(out / "ask" / name, level(kokoro(text, voice).wav))
            asked.append({"path": name, "text": text, "voice": voice, "wanted": answer})
    (out / "ask" / "asked.json").write_text(json.dumps(asked, indent=1))


def measure(out: Path, model: str, adapter: Path | None) -> None:
    """How many replies are right: by their text, and by an ear."""
    from measure_moshi import ask

    import moshi_mlx
    from moshi_mlx.audio.files import read
    from tests import recogniser

    for answer in asked_for():
        recogniser.ANSWERS[recogniser.words(answer)] = answer
    moshi = moshi_mlx.load(model, adapter=adapter)
    right: dict[str, list[tuple[bool, bool]]] = {"new": [], "old": []}
    for entry in json.loads((out / "ask" / "asked.json").read_text()):
        question = read(out / "ask" / entry["path"])[0]
        text, sound = ask(moshi.session(seed=0), question, 0.5)
        kind = "new" if entry["wanted"] == ANSWER else "old"
        heard = recogniser.hear(sound)
        right[kind].append((text == entry["wanted"], heard == entry["wanted"]))
    for kind, found in right.items():
        by_text, by_ear = (sum(column) for column in zip(*found, strict=True))
        print(
            f"{kind}: of {len(found)} replies {by_text} right in text, {by_ear} heard"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("what", choices=["record", "measure"])
    option("--out", type=Path, required=True)
    option("--count", type=int, default=60, help="recordings of the new question")
    option("--model", default="demo")
    option("--adapter", type=Path)
    option("--kokoro-model", type=Path, default=Path("kokoro.int8.onnx"))
    option("--kokoro-voices", type=Path, default=Path("voices"))
    args = parser.parse_args()
    if args.what == "measure":
        measure(args.out, args.model, args.adapter)
        return
    from voices import Kokoro

    record(args.out, args.count)
    record_questions(args.out, Kokoro(args.out, args.kokoro_model, args.kokoro_voices))


if __name__ == "__main__":
    main()
