"""Make shards of speech.

    python speech.py hibari  --minutes 40 --shards 8 --seed 11 --out speech/hib
    python speech.py kokoro  --minutes 3 --shards 40 --seed 12 --out speech/kok
    python speech.py asked   --minutes 3 --shards 20 --seed 13 --out speech/ask
    python speech.py flite   --minutes 30 --seed 5 --out speech/old
    python speech.py answers --out speech/answers
    python speech.py test    --out measure/test

A shard that is there already is left as it is, so the same command goes on where it was
stopped. ``asked`` are questions that Moshi knows, in Kokoro's voices. What is for
measuring (``test``, ``questions``) belongs in another folder: training takes whatever
it finds.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from intents import INTENTS, TEXTS
from shards import Spoken, Writer, whole
from texts import QUESTIONS, TEST, Sentences, asked
from voices import FLITE, MEASURED, VOICES, Hibari, Kokoro, flite, random_voice

KOKORO = ("kokoro", "asked", "test", "questions")  # what needs it

Say = Callable[[str, np.random.Generator], tuple[Spoken, str]]


def answers(writer: Writer, hibari: Hibari) -> None:
    """Every answer, twice by the assistant and once by each voice of the TTS."""
    rng = np.random.default_rng(1)
    for number, text in enumerate(TEXTS):
        for name in ("heart", *VOICES):
            writer.add(hibari(text, VOICES[name], rng), name, text, answer=number)


def test(writer: Writer, hibari: Hibari, kokoro: Kokoro) -> None:
    """Answers and free sentences by the assistant; free ones by those never heard."""
    rng = np.random.default_rng(1)
    for kind, lines in (("answer", TEXTS), ("free", TEST)):
        for text in lines:
            said = hibari(text, VOICES["heart"], rng)
            writer.add(said, "heart", text, kind=kind)
    for i, text in enumerate(TEST):
        for k in (0, 3):  # every sentence by two of the six voices
            voice = MEASURED[(i + k) % 6]
            writer.add(kokoro(text, voice), voice, text, kind="unseen")
        writer.add(hibari(text, random_voice(rng), rng), "other", text, kind="shifted")


def questions(writer: Writer, kokoro: Kokoro) -> None:
    """Every intent by each of the six voices; in a new wording by two of them."""
    for i, (name, intent) in enumerate(INTENTS.items()):
        for k, voice in enumerate(MEASURED):
            about = {"intent": name, "kind": "known"}
            text = asked(intent.known[0])
            writer.add(kokoro(text, voice), voice, text, **about)
            if (i + k) % 3 == 0:
                text = asked(intent.held_out[k % len(intent.held_out)])
                about["kind"] = "held_out"
                writer.add(kokoro(text, voice), voice, text, **about)


def speaker(what: str, others: float, hibari: Hibari, kokoro: Kokoro | None) -> Say:
    """Says a text by a random speaker of the kind asked for."""

    def natural(text: str, rng: np.random.Generator) -> tuple[Spoken, str]:
        assert kokoro
        voice, speed = kokoro.random_voice(rng), float(rng.uniform(0.8, 1.2))
        return kokoro(text, voice, speed, float(rng.uniform(0.3, 0.7))), voice

    def old(text: str, rng: np.random.Generator) -> tuple[Spoken, str]:
        voice, stretch = str(rng.choice(FLITE)), rng.uniform(0.8, 1.2)
        return flite(text.replace('"', ""), voice, stretch, hibari.phones), "old"

    def turned(text: str, rng: np.random.Generator) -> tuple[Spoken, str]:
        if rng.random() < others:
            return hibari(text, random_voice(rng), rng), "other"
        speed = float(rng.uniform(0.95, 1.08))
        return hibari(text, (1, 1, speed, 1, 0), rng), "heart"

    return {"kokoro": natural, "asked": natural, "flite": old}.get(what, turned)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    kinds = ["hibari", "kokoro", "asked", "flite", "answers", "test", "questions"]
    option("what", choices=kinds)
    option("--minutes", type=float, default=30, help="of speech, in a shard")
    option("--shards", type=int, default=1)
    option("--others", type=float, default=0.6, help="hibari: not the assistant's")
    option("--seed", type=int, default=1)
    option("--kokoro-model", type=Path, default=Path("kokoro.int8.onnx"))
    option("--kokoro-voices", type=Path, default=Path("voices"))
    option("--out", type=Path, required=True)
    args = parser.parse_args()
    folder, kokoro = args.out.parent, None
    if args.what in KOKORO:
        kokoro = Kokoro(folder, args.kokoro_model, args.kokoro_voices)
    hibari = Hibari(folder)
    names = hibari.phones.names
    if args.what in ("answers", "test", "questions"):
        writer = Writer(args.out, names)
        if args.what == "answers":
            answers(writer, hibari)
        elif args.what == "test":
            test(writer, hibari, kokoro)
        else:
            questions(writer, kokoro)
        writer.save()
        return
    say = speaker(args.what, args.others, hibari, kokoro)
    for shard in range(args.shards):
        writer = Writer(args.out.with_name(f"{args.out.name}_{shard}"), names)
        if whole(writer.out):
            continue
        seed = args.seed * 1000 + shard
        rng, sentence = np.random.default_rng(seed), Sentences(seed)
        while writer.samples < args.minutes * 60 * 24000:
            text = sentence() if args.what != "asked" else str(rng.choice(QUESTIONS))
            writer.add(*say(text, rng), text)
        writer.save()
        print(round(time.process_time()), "CPU s", flush=True)


if __name__ == "__main__":
    main()
