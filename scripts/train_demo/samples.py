"""Dialogues to listen to, frame by frame as Kyutai's server does -> samples/*.wav

    python samples.py joke france hello+joke silence

A name is an intent, ``A+B`` two questions in turn, ``silence`` a user who says nothing.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from encode import user_audio
from measure_lm import Subject, load_subject
from moshi.models.lm import LMGen
from shards import DATA, FRAME, SAMPLE_RATE, Utterance, load, write_wav

NAMES = ["joke", "france", "name", "can", "dog", "weather", "hello+joke", "silence"]
LOUDNESS = 0.7  # of each side in the mix


def ask(name: str, pool: list[Utterance], rng: np.random.Generator) -> np.ndarray:
    """The user's side ``[S]``, in whole frames."""
    if name == "silence":
        return np.zeros(100 * FRAME, np.float32)
    intents = name.split("+")
    tail = 65 if len(intents) == 1 else 60
    questions = [next(u for u in pool if u.meta["intent"] == i) for i in intents]
    sides = [user_audio(u, rng, 1, lead=12, tail=tail)[0] for u in questions]
    return np.concatenate(sides)


def talk(subject: Subject, user: np.ndarray) -> tuple[str, np.ndarray]:
    """The model's text and sound, one frame behind the user."""
    mimi, gen = (
        subject.mimi,
        LMGen(subject.lm, temp=subject.temp, temp_text=subject.temp_text),
    )
    sounds, text = [], []
    with mimi.streaming(1), gen.streaming(1):
        for frame in torch.from_numpy(user)[None, None].split(FRAME, -1):
            tokens = gen.step(mimi.encode(frame))
            if tokens is not None:
                sounds.append(mimi.decode(tokens[:, 1:]))
                text.append(tokens[0, 0])
    return subject.read(torch.cat(text)), torch.cat(sounds, -1)[0, 0].numpy()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--model", type=Path, default=Path("nano-moshi"))
    parser.add_argument("--temp", type=float, default=0.5)
    parser.add_argument("--temp-text", type=float, default=0.3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    subject = load_subject(args.model, args.temp, args.temp_text)
    pool = [
        u for s in ("voice", "prosody") for u in load(DATA / f"users_heldout_{s}_0.npz")
    ]
    rng, out = np.random.default_rng(3), Path("samples")
    out.mkdir(exist_ok=True)
    for seed, name in enumerate(args.names):
        user = ask(name, pool, rng)
        torch.manual_seed(seed)
        start = time.time()
        text, sound = talk(subject, user)
        per_frame_ms = (time.time() - start) * 1000 / (len(user) / FRAME)
        both = np.zeros(len(user) + FRAME, np.float32)
        both[: len(user)] += LOUDNESS * user
        both[FRAME:][: len(sound)] += LOUDNESS * sound
        for side, pcm in (("user", user), ("moshi", sound), ("dialogue", both)):
            write_wav(out / f"{name.replace('+', '_')}_{side}.wav", pcm)
        seconds = len(user) / SAMPLE_RATE
        print(f"{name} ({seconds:.1f} s): {text} | {per_frame_ms:.0f} ms a frame")


if __name__ == "__main__":
    main()
