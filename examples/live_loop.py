"""A live conversation over sound of your own: any source, any sink, any rate.

Here the source is a file played at its own speed in blocks of 10 ms at 48 kHz, as a
sound card or a telephone line would bring it, and the sink collects blocks of the same
size. Replace both by yours.

python examples/live_loop.py [QUESTION.wav] [HEARD.wav]
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import moshi_mlx
from moshi_mlx.audio import (
    SAMPLE_RATE,
    Framer,
    PlaybackRing,
    Resampler,
    read,
    write_wav,
)

SHIPPED = Path(moshi_mlx.__file__).parent / "demo" / "questions" / "joke.wav"
RATE = 48_000  # Hz, of the source and the sink
BLOCK = RATE // 100  # samples: 10 ms
TAIL_S = 5.0


def source(path: str | Path) -> Iterator[np.ndarray]:
    """Blocks ``[BLOCK]`` as time goes by: the question, then silence."""
    pcm = np.append(read(path, RATE)[0], np.zeros(int(TAIL_S * RATE), np.float32))
    begun = time.perf_counter()
    for start in range(0, len(pcm) - BLOCK + 1, BLOCK):
        time.sleep(max(0.0, begun + start / RATE - time.perf_counter()))
        yield pcm[start : start + BLOCK]


def main(question: str | Path, heard: str | Path) -> None:
    moshi = moshi_mlx.load("demo")
    moshi.warmup()  # compile before somebody waits
    session = moshi.session(seed=1, first="silence")  # live: no frame is known before

    down, framer = Resampler(RATE, SAMPLE_RATE), Framer()
    up = Resampler(SAMPLE_RATE, RATE)
    # Between the model's frames of 80 ms and the sink's blocks of 10 ms.
    waiting = PlaybackRing(RATE)
    played = []
    for block in source(question):
        for frame in framer.push(down.push(block[None])[0]):
            reply = session.step(frame)
            print(reply.text, end="", flush=True)
            if reply.pcm is not None:
                waiting.write(up.push(reply.pcm[None])[0])
        played.append(waiting.read(BLOCK))  # silence where nothing waits
    print()
    write_wav(heard, np.concatenate(played), RATE)


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else SHIPPED,
        sys.argv[2] if len(sys.argv) > 2 else "heard.wav",
    )
