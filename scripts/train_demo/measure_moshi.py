"""Does Moshi answer what it is asked? Right: its text is exactly the wanted answer.

    python measure_moshi.py --model demo --intents 60 --rows version_1.json

Run it with the environment of ``moshi_mlx``: this is the package as it ships, frame by
frame. It asks the questions of a shard that ``speech.py questions`` made, and tells the
share of right answers by voice, for known and for new wordings. With ``--ear`` (it
needs Whisper tiny.en) it also tells how many replies say what their text says; with
``--noisy`` (it needs SciPy) questions come through a random room, line and noise.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from compare import distance, plain
from intents import INTENTS, NAMES
from shards import FRAME, SAMPLE_RATE, utterances

import moshi_mlx

SAID_S = 1.2  # without a word: the answer is over
LONGEST_S = 10.0


def ask(session, pcm: np.ndarray, lead_s: float) -> tuple[str, np.ndarray]:
    """Text and sound of the reply to a question."""
    lead, rest = round(lead_s * SAMPLE_RATE), -len(pcm) % FRAME
    x = np.pad(pcm, (lead, rest + FRAME * round(LONGEST_S * 12.5)))
    heard = lead + len(pcm)
    pieces, sounds, quiet = [], [], 0
    for start in range(0, len(x) - FRAME + 1, FRAME):
        reply = session.step(x[start : start + FRAME])
        pieces.append(reply.text or "")
        if reply.pcm is not None:
            sounds.append(reply.pcm)
        quiet = 0 if reply.text or start < heard else quiet + 1
        if "".join(pieces) and quiet > SAID_S * 12.5:
            break
    return "".join(pieces).strip(), np.concatenate(sounds)


def tell(right: dict[tuple[str, str], list[bool]]) -> None:
    """Print the share of right answers by kind and voice."""
    for kind in ("known", "held_out"):
        table = {voice: found for (k, voice), found in right.items() if k == kind}
        if not table:
            continue
        table["all"] = [hit for found in table.values() for hit in found]
        for voice, found in table.items():
            n = len(found)
            print(f"{kind} {voice}: {100 * sum(found) / n:.1f} % of {n}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--model", default="demo")
    option("--shard", type=Path, default=Path("measure/questions"))
    option("--intents", type=int, default=len(INTENTS), help="the first ones")
    option("--lead", type=float, default=0.5, help="seconds of silence in front")
    option("--seed", type=int, default=0)
    option("--every", type=int, default=1, help="ask only every so manieth intent")
    option("--ear", action="store_true")
    option("--noisy", action="store_true")
    option("--rows", type=Path, help="file for each question's answer")
    args = parser.parse_args()
    ear = None
    if args.ear:
        from ear import Ear

        ear = Ear()
    if args.noisy:
        from damage import damage
    rng = np.random.default_rng(args.seed)
    moshi = moshi_mlx.load(args.model)
    names = NAMES[1 : args.intents + 1 : args.every]
    right, said, rows = defaultdict(list), [], []
    for utterance in utterances(args.shard):
        about = utterance.about
        if about.get("intent") not in names:
            continue
        session = moshi.session(seed=args.seed)
        pcm = damage(utterance.pcm, rng) if args.noisy else utterance.pcm
        text, sound = ask(session, pcm, args.lead)
        wanted = INTENTS[about["intent"]].answer
        right[about["kind"], about["voice"]].append(text == wanted)
        row = {name: about[name] for name in ("voice", "kind", "text", "intent")}
        rows.append(row | {"wanted": wanted, "answer": text})
        if ear:
            heard, goal = plain(ear(sound)), plain(text)
            wrong = distance(goal, heard)
            said.append(wrong <= 0.2 * len(goal))
            rows[-1]["heard"] = " ".join(heard)
        if args.rows:
            args.rows.write_text(json.dumps(rows, indent=0))
    tell(right)
    if said:
        print(f"spoken as written: {100 * sum(said) / len(said):.1f} % of {len(said)}")


if __name__ == "__main__":
    main()
