"""What the live loop itself costs: its delay from microphone to speaker, and its CPU.

    .venv/bin/python scripts/live_latency.py

A parrot stands in the model's place and says each frame back at once, on a software
sound card (PulseAudio, scripts/debian-packages.txt). Clicks go into the microphone; the
delay is counted where the devices' callbacks hand over and take, so that it holds all
that this package adds and nothing of the devices.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from moshi_mlx.audio import FRAME, SAMPLE_RATE  # noqa: E402
from moshi_mlx.audio.device import refresh  # noqa: E402
from moshi_mlx.chat.sound import Sound, SoundOptions  # noqa: E402
from tests.live.pulse import Pulse  # noqa: E402

LOUD = 0.1
SETTLE_S = 4.0


class Parrot(Sound):
    """Says what it hears; notes when clicks come and go."""

    def __init__(self, options: SoundOptions):
        super().__init__(options, self.play, print)
        self.came: list[float] = []
        self.went: list[float] = []

    def _hear(self, block: np.ndarray) -> None:
        super()._hear(block)
        assert self.microphone is not None
        self._note(self.came, block, self.microphone.rate, at_end=True)

    def _read(self, num_samples: int) -> np.ndarray:
        block = super()._read(num_samples)
        assert self.speaker is not None
        self._note(self.went, block, self.speaker.rate, at_end=False)
        return block

    def _note(
        self, times: list[float], block: np.ndarray, rate: int, at_end: bool
    ) -> None:
        """When the first loud sample of a click was, or will be, in the air."""
        if not (np.abs(block) > LOUD).any():
            return
        first = int(np.argmax(np.abs(block) > LOUD))
        at = time.perf_counter() + (first - at_end * len(block)) / rate
        if not times or at - times[-1] > 0.2:
            times.append(at)


def main() -> None:
    """Measure, print JSON."""
    parser = argparse.ArgumentParser(description="What the live loop itself costs.")
    parser.add_argument("--seconds", type=float, default=20)
    seconds = parser.parse_args().seconds
    pulse = Pulse()
    os.environ.update(pulse.env)
    refresh()
    try:
        result = {
            "delay_ms": delay(pulse, seconds),
            "cpu_percent": {
                "with echo cancellation": idle(seconds, echo=True),
                "without": idle(seconds, echo=False),
                "devices alone": idle(seconds, echo=None),
            },
        }
    finally:
        pulse.close()
    print(json.dumps(result))


def delay(pulse: Pulse, seconds: float) -> dict[str, float]:
    """From a sample at the microphone to the same at the loudspeaker, in ms."""
    parrot = Parrot(SoundOptions(echo=False))
    parrot.start()
    time.sleep(SETTLE_S)
    clicks = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    for at in np.arange(0.5, seconds - 0.5, 0.507):
        clicks[round(at * SAMPLE_RATE) :][:24] = 0.8
    pulse.say(clicks)
    target = 1000 * parrot.jitter.target_s if parrot.jitter else 0.0
    parrot.stop()
    pairs = [
        1000 * (min(w for w in parrot.went if w > c) - c)
        for c in parrot.came
        if any(c < w < c + 0.5 for w in parrot.went)
    ]
    return {
        "clicks": len(pairs),
        "p50": round(float(np.percentile(pairs, 50)), 1),
        "p95": round(float(np.percentile(pairs, 95)), 1),
        "of that frame": 1000 * FRAME / SAMPLE_RATE,
        "of that buffer": round(target, 1),
    }


def idle(seconds: float, echo: bool | None) -> float:
    """CPU of this process while nobody speaks, percent of a core."""
    if echo is None:
        sound = Silent(SoundOptions(echo=False))
    else:
        sound = Parrot(SoundOptions(echo=echo))
    sound.start()
    time.sleep(SETTLE_S)
    cpu, wall = time.process_time(), time.perf_counter()
    time.sleep(seconds)
    used = time.process_time() - cpu
    share = 100 * used / (time.perf_counter() - wall)
    sound.stop()
    return round(share, 2)


def _ignore(frame: np.ndarray, at: float) -> None:
    """Take a frame and do nothing with it."""


class Silent(Sound):
    """Opens the devices and does nothing with them."""

    def __init__(self, options: SoundOptions):
        super().__init__(options, _ignore, print)

    def _hear(self, block: np.ndarray) -> None:  # noqa: ARG002
        self._heard_at = time.perf_counter()

    def _read(self, num_samples: int) -> np.ndarray:
        self._read_at = time.perf_counter()
        return np.zeros(num_samples, np.float32)


if __name__ == "__main__":
    main()
