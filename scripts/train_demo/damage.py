"""What happens to speech on its way: a room, a microphone, a line, noise, a level."""

import numpy as np
import scipy.fft
from shards import SAMPLE_RATE

Rng = np.random.Generator


def _room(size: int, rng: Rng) -> np.ndarray:
    """A decaying tail of noise after the direct sound, as a response."""
    n = int(rng.uniform(0.1, 0.5) * SAMPLE_RATE)
    tail = rng.standard_normal(n) * np.exp(-6.9 * np.arange(n) / n)
    tail *= rng.uniform(0.1, 0.9) / np.sqrt((tail**2).sum())
    tail[: int(rng.uniform(0.001, 0.01) * SAMPLE_RATE)] = 0
    tail[0] = 1
    return scipy.fft.rfft(tail.astype(np.float32), size)


def _line(hz: np.ndarray, rng: Rng) -> np.ndarray:
    """A telephone, a small microphone, or neither."""
    kind, low, high = rng.random(), 10.0, 14_000.0
    if kind < 0.2:
        low, high = rng.uniform(150, 350), rng.uniform(3200, 3900)
    elif kind < 0.45:
        low, high = rng.uniform(60, 200), rng.uniform(5000, 11000)
    return 1 / (1 + (low / np.maximum(hz, 1)) ** 6) / (1 + (hz / high) ** 16)


def _tone(hz: np.ndarray, rng: Rng) -> np.ndarray:
    """A tilt and one bump."""
    octaves = np.log2(np.maximum(hz, 50) / 1000)
    bump = np.exp(-((octaves - rng.uniform(-2, 2.5)) ** 2) / 0.3)
    return 10 ** ((octaves * rng.uniform(-2, 2) + bump * rng.uniform(-8, 8)) / 20)


def _noise(hz: np.ndarray, size: int, rng: Rng) -> np.ndarray:
    """White, pink or brown."""
    shape = np.maximum(hz / 500, 0.05) ** -rng.choice([0.0, 0.5, 1.0])
    noise = rng.standard_normal(2 * len(hz)).astype(np.float32).view(np.complex64)
    noise = scipy.fft.irfft(noise * shape.astype(np.float32), size)
    return noise / noise.std()


def damage(x: np.ndarray, rng: Rng) -> np.ndarray:
    """Float32 ``[S]`` in [-1, 1], damaged at random."""
    n = len(x)
    size = scipy.fft.next_fast_len(n + SAMPLE_RATE // 2)
    hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
    response = _line(hz, rng).astype(np.complex64)
    if rng.random() < 0.4:
        response *= _room(size, rng)
    if rng.random() < 0.5:
        response *= _tone(hz, rng)
    y = scipy.fft.irfft(scipy.fft.rfft(x, size) * response, size)[:n]
    level = np.sqrt((y**2).mean()) + 1e-4
    if rng.random() < 0.7:
        y = y + _noise(hz, size, rng)[:n] * level * 10 ** (-rng.uniform(8, 45) / 20)
    return (y * 10 ** rng.uniform(-0.9, 0.25)).clip(-1, 1).astype(np.float32)
