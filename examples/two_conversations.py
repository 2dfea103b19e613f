"""Two conversations at once in asyncio, as a server of your own would hold them.

python examples/two_conversations.py [QUESTION.wav ...]

One model, one set of weights: while a conversation waits for its next frame, the other
one computes. Everything is computed on a thread that the model owns, so the event loop
stays free.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

import moshi_mlx
from moshi_mlx.engines.duplex.engine import Moshi

SHIPPED = Path(moshi_mlx.__file__).parent / "demo" / "questions"


async def line(path: Path) -> AsyncIterator[np.ndarray]:
    """Frames of somebody who is far away: here a file, in your program a socket."""
    for frame in moshi_mlx.audio.frames(path):
        await asyncio.sleep(0)  # others may have their turn
        yield frame


async def converse(moshi: Moshi, path: Path) -> str:
    """One conversation, from its first frame to the end of the answer."""
    said = ""
    async with await moshi.asession(seed=1) as session:
        async for frame in line(path):
            reply = await session.astep(frame)  # reply.pcm goes back over the line
            said += reply.text
        async for reply in session.aflush():
            said += reply.text
    return said.strip()


async def main(paths: list[Path]) -> None:
    with moshi_mlx.load_moshi("demo") as moshi:
        said = await asyncio.gather(*(converse(moshi, path) for path in paths))
    for path, words in zip(paths, said, strict=True):
        print(f"{path.name}: {words}")


if __name__ == "__main__":
    given = [Path(name) for name in sys.argv[1:]]
    asyncio.run(main(given or [SHIPPED / "joke.wav", SHIPPED / "planet.wav"]))
