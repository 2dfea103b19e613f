"""How good the codec and the language models are, in the environment of moshi_mlx.

``speech.py measure`` makes what is listened to. Each sentence is printed as JSON, then
the figures with n, every kind and every voice by itself. Whisper tiny.en is the ear of
codec and TTS. Moshi is right if its text is exactly the wanted answer; ``--ear``: how
many replies say what their text says. The STT's pauses: how late half a second of
silence is found.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from damage import damage
from ear import Ear, Errors
from intents import INTENTS, NAMES, TEXTS
from shards import SAMPLE_RATE, Utterance, load
from texts import TEST, asked

import moshi_mlx
from moshi_mlx.engines.stt import Pauses

LEAD, TAIL = SAMPLE_RATE // 2, 2 * SAMPLE_RATE  # silence around a sentence
PAUSE_S, NEAR_S = 0.5, 0.3
SPOKEN = 0.2  # share of wrong words, up to which a reply says its text
SETS = {
    "answers": TEXTS,
    "asked": [asked(intent.known[0]) for intent in INTENTS.values()],
    "free": TEST,
    "new": [asked(intent.held_out[0]) for intent in INTENTS.values()],
}


def sentences(args: argparse.Namespace, shards: str) -> Iterator[tuple[str, Utterance]]:
    """Those of ``--sets``, with their kinds."""
    for name in (args.sets or shards).split(","):
        for one in load(args.measure / name)[:: args.every]:
            yield f"{name} {one.about['kind']}", one


def codec(args: argparse.Namespace) -> None:
    """Word errors of sentences before and after."""
    model, ear, errors = moshi_mlx.load_codec(args.model), Ear(), Errors()
    for kind, one in sentences(args, "test,strangers"):
        codes = model.encode(np.pad(one.pcm, (LEAD, 0)))
        heard = ear(model.decode(codes)[LEAD:])
        text, voice = one.about["text"], one.about["voice"]
        errors.add(text, heard, kind, f"{kind} {voice}")
        errors.add(text, ear(one.pcm), f"{kind}, original")
        print(json.dumps({**one.about, "kind": kind, "heard": heard}))
    print(errors)


def moshi(args: argparse.Namespace) -> None:
    """Right answers by kind and voice, of every so manieth intent."""
    model, rng = moshi_mlx.load(args.model), np.random.default_rng(args.seed)
    ear, errors = Ear() if args.ear else None, Errors()
    right: dict[str, list[bool]] = {}
    names = NAMES[1 :: args.every]
    for one in load(args.measure / (args.sets or "questions")):
        kind, voice, name = (one.about[x] for x in ("kind", "voice", "intent"))
        if name not in names:
            continue
        pcm = damage(one.pcm, rng) if args.noisy else one.pcm
        reply = model.respond(np.pad(pcm, (LEAD, 0)), seed=args.seed)
        text, wanted = reply.text.strip(), INTENTS[name].answer
        for key in ("all", kind, f"{kind} {voice}"):
            right.setdefault(key, []).append(text == wanted)
        heard = ear(reply.pcm) if ear and text else ""
        if heard:
            wrong = errors.add(text, heard, "replies")
            right.setdefault("spoken as written", []).append(wrong <= SPOKEN)
        said = {"wanted": wanted, "answer": text, "heard": heard}
        print(json.dumps(one.about | said))
    for key, hits in right.items():
        print(f"{key}: {np.mean(hits):.1%} of {len(hits)}")


def stt(args: argparse.Namespace) -> None:
    """Word errors by kind and voice, and how late pauses are found."""
    model, errors, late = moshi_mlx.load_stt(args.model), Errors(), []
    for kind, one in sentences(args, "test,questions,strangers"):
        events: list[object] = []
        heard = model.transcribe(
            np.pad(one.pcm, (LEAD, TAIL)), on_event=events.append
        ).text
        text, voice, words = (one.about[x] for x in ("text", "voice", "words"))
        errors.add(text, heard, kind, f"{kind} {voice}")
        if words and model.pause_lengths_s:
            late.append(pause_error(events, LEAD / SAMPLE_RATE + words[-1][1]))
        print(json.dumps({**one.about, "kind": kind, "heard": heard}))
    print(errors)
    if late:
        near = np.mean(np.abs(late) <= NEAR_S)
        print(f"pauses: {near:.1%} within 0.3 s, median {np.median(late):+.2f} s late")


def pause_error(events: list, end_s: float) -> float:
    """Seconds by which the pause after ``end_s`` is found late; infinite if never."""
    pauses = [e for e in events if isinstance(e, Pauses) and e.time_s > end_s]
    found = [e.time_s for e in pauses if e.probabilities[0] > 0.5]
    return found[0] - end_s - PAUSE_S if found else float("inf")


def tts(args: argparse.Namespace) -> None:
    """Word errors by the ear, and by our own."""
    model, ear, errors = moshi_mlx.load_tts(args.model), Ear(), Errors()
    own = moshi_mlx.load_stt(args.stt) if args.stt else None
    for name in (args.sets or ",".join(SETS)).split(","):
        for text in SETS[name][:: args.every]:
            said = model.say(text, seed=args.seed)
            heard = ear(said.pcm)
            errors.add(text, heard, name)
            row = {"kind": name, "text": text, "heard": heard}
            if own is not None:
                row["own"] = own.transcribe(said.pcm).text
                errors.add(text, row["own"], f"{name}, own ear")
            print(json.dumps(row))
    print(errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    option = parser.add_argument
    option("what", choices=["codec", "moshi", "stt", "tts"])
    option("--model", default="demo")
    option("--measure", type=Path, default=Path("measure"), help="folder of the shards")
    option("--sets", help="of those, or the TTS's sentences; comma between")
    option("--every", type=int, default=1, help="only every so manieth")
    option("--seed", type=int, default=0)
    option("--ear", action="store_true", help="moshi: hear the replies")
    option("--noisy", action="store_true", help="moshi: through rooms, lines, noise")
    option("--stt", help="tts: our own ear")
    args = parser.parse_args()
    {"codec": codec, "moshi": moshi, "stt": stt, "tts": tts}[args.what](args)


if __name__ == "__main__":
    main()
