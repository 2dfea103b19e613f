"""Word errors of the TTS by two ears: Whisper tiny.en and, if given, our own STT.

    python measure_tts.py --model nano-tts [--stt nano-stt] --rows tts.json

With the environment of ``moshi_mlx`` and Whisper tiny.en. The TTS says the answers of
Moshi (it learnt them), the free sentences of ``test_sentences.txt`` (it did not), some
with numbers, and questions in wordings that were kept out; whole, and streamed a word
at a time. Also told: whether each word has a time, in order.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from compare import Errors
from ear import Ear
from intents import INTENTS, TEXTS
from texts import TEST, asked

import moshi_mlx

NUMBERS = [
    "I have 3 cats and 12 dogs.",
    "The train leaves at 9 on the 1st day.",
    "It costs 20 dollars, or 24 with the bag.",
    "Wait! Is it really 100 years old?",
]
SETS = {
    "answers": TEXTS,
    "free": TEST,
    "numbers": NUMBERS,
    "questions": [asked(intent.held_out[0]) for intent in INTENTS.values()],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    option = parser.add_argument
    option("--model", default="demo")
    option("--stt", help="our own ear")
    option("--sets", default="answers,free,numbers,questions")
    option("--every", type=int, default=1, help="say only every so manieth sentence")
    option("--voices", default="", help="instead of the usual one")
    option("--streamed", action="store_true", help="a word at a time as well")
    option("--seed", type=int, default=0)
    option("--rows", type=Path, help="file for what was heard of each sentence")
    args = parser.parse_args()
    tts, ear, errors, rows = moshi_mlx.load_tts(args.model), Ear(), Errors(), []
    stt = moshi_mlx.load_stt(args.stt) if args.stt else None
    timed = total = 0
    for name in args.sets.split(","):
        for text in SETS[name][:: args.every]:
            for voice in args.voices.split(",") if args.voices else [None]:
                said = tts.say(text, voice, seed=args.seed)
                starts = [word.start_s for word in said.words]
                ordered = starts == sorted(starts) and len(starts) == len(text.split())
                timed, total = timed + ordered, total + 1
                kind = f"{name} {voice or tts.usual_voice}"
                heard = ear(said.pcm)
                errors.add(text, heard, kind)
                rows.append({"kind": kind, "text": text, "heard": heard})
                if stt is not None:
                    own = stt.transcribe(said.pcm).text
                    errors.add(text, own, f"{kind}, own ear")
                    rows[-1]["own ear"] = own
                if args.streamed:
                    pieces = [f"{word} " for word in text.split()]
                    frames = list(tts.stream(pieces, voice, seed=args.seed))
                    heard = ear(np.concatenate(frames))
                    errors.add(text, heard, f"{kind}, streamed")
            if args.rows:
                args.rows.write_text(json.dumps(rows, indent=0))
    print(errors)
    print(f"words with times in order: {timed} of {total} sentences")


if __name__ == "__main__":
    main()
