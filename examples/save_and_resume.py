"""Keep a conversation in a file, and go on with it later, in another process.

python examples/save_and_resume.py [QUESTION.wav] [CONVERSATION.safetensors]

The file holds what the conversation remembers, so keep it as private as a recording. It
fits the same weights only, and continues with the same words and the same sound.
"""

import sys
from itertools import islice
from pathlib import Path

import moshi_mlx
from moshi_mlx.models.snapshot import Snapshot

SHIPPED = Path(moshi_mlx.__file__).parent / "demo" / "questions" / "joke.wav"


def main(question: str | Path, kept: str | Path) -> None:
    moshi = moshi_mlx.load("demo")
    frames = moshi_mlx.audio.frames(question)

    first = moshi.session(seed=1)
    for frame in islice(frames, 62):  # until Moshi is in the middle of its answer
        print(first.step(frame).text, end="", flush=True)
    first.snapshot().save(kept)
    print(" ...", flush=True)

    later = moshi.session(seed=2)  # the seed is overwritten: the draws go on as well
    later.restore(Snapshot.load(kept))
    for frame in frames:
        print(later.step(frame).text, end="", flush=True)
    for reply in later.flush():  # silence, until Moshi has finished
        print(reply.text, end="", flush=True)
    print()


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else SHIPPED,
        sys.argv[2] if len(sys.argv) > 2 else "conversation.safetensors",
    )
