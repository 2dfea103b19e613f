# pyright: reportMissingImports=false
"""What the Python programs share: their arguments, sound in and out, and the report.

A program is called with the server's address and a folder that holds ``sound.wav`` (16
bits, 24 kHz) and ``text.txt``. What it hears, it puts there; what it read, it prints as
JSON.
"""

import asyncio
import json
import sys
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

HZ = 24000
PIECE = 2 * HZ // 25  # bytes in 20 ms

url, folder = sys.argv[1].rstrip("/"), Path(sys.argv[2])
text = (folder / "text.txt").read_text()


def sound() -> bytes:
    """The samples that are to be heard."""
    with wave.open(str(folder / "sound.wav")) as file:
        return file.readframes(file.getnframes())


def keep(name: str, samples: bytes, hz: int) -> None:
    """What the program heard: 16-bit samples."""
    with wave.open(str(folder / f"{name}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(hz)
        file.writeframes(samples)


async def microphone(push: Callable[[bytes], None]) -> None:
    """Push the sound as a microphone gives it, and silence after it; without end."""
    samples, loop = sound(), asyncio.get_running_loop()
    start, at = loop.time(), 0
    while True:
        push(samples[at : at + PIECE].ljust(PIECE, b"\0"))
        at += PIECE
        ahead = start + at / 2 / HZ - loop.time()
        await asyncio.sleep(max(0.0, ahead))


@asynccontextmanager
async def speaking(push: Callable[[bytes], None]) -> AsyncIterator[None]:
    """A microphone runs meanwhile."""
    running = asyncio.ensure_future(microphone(push))
    try:
        yield
    finally:
        running.cancel()


def report(program: Callable[[], Awaitable[dict[str, Any]]], limit_s: float) -> None:
    """Run a program, and print what it tells."""

    async def main() -> dict[str, Any]:
        return await asyncio.wait_for(program(), limit_s)

    print(json.dumps(asyncio.run(main())))
