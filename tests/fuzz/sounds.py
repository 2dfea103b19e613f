"""Mutated sound files of every kind: read as far as they go, or refused in words."""

import random
from functools import partial
from pathlib import Path

import numpy as np

from moshi_mlx import audio
from moshi_mlx.audio.long import open_sound
from tests.audio.made import KINDS as MADE
from tests.audio.made import made
from tests.fuzz.harness import Try

SECONDS = 1.5
PAGES_S = 8.0  # of Ogg, which drops a whole page for one wrong byte
HEAD = 200  # bytes of a header, which are changed more often
NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1]


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A file with one to four changes, some of them in its header."""
    new = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        end = len(new) if rng.random() < 0.6 else min(HEAD, len(new))
        at = rng.randrange(max(end, 1))
        size = rng.choice((1, 2, 4, 16, 300, 3000))
        change = rng.randrange(8)
        if change == 0:
            new[at : at + size] = rng.randbytes(size)
        elif change == 1:  # a number, in either order of bytes
            width = rng.choice((2, 4, 8))
            number = rng.choice(NUMBERS) % 256**width
            order = rng.choice(("little", "big"))
            new[at : at + width] = number.to_bytes(width, order)
        elif change == 2:
            new[at : at + 1] = bytes([new[at] ^ 1 << rng.randrange(8)] if new else [])
        elif change == 3:
            del new[at : at + size]
        elif change == 4:
            del new[max(at, 1) :]
        elif change == 5:
            new[at:at] = new[at : at + size] * rng.choice((1, 3, 50))
        elif change == 6:
            new[at : at + size] = bytes(size)
        else:
            start = rng.randrange(len(other))
            new[at:at] = other[start : start + size]
    return bytes(new)


def try_sound(kind: str, rng: random.Random, folder: Path) -> None:
    """Read a mutated file whole, or in frames, and look at what comes of it."""
    seconds = PAGES_S if kind in ("ogg", "opus") else SECONDS
    data = mutated(made(kind, seconds=seconds), made(rng.choice(MADE)), rng)
    path = folder / f"case.{kind}"
    path.write_bytes(data)
    if rng.random() < 0.5:
        pcm = audio.read(path, mono=rng.random() < 0.8)
        assert pcm.dtype == np.float32 and pcm.size and np.isfinite(pcm).all()
        return
    sound, at = open_sound(path), 0
    while len(part := sound[at : at + 1920]):
        assert part.dtype == np.float32 and np.isfinite(part).all()
        at += len(part)


SOUNDS: dict[str, Try] = {f"{kind} sounds": partial(try_sound, kind) for kind in MADE}
