"""Whether this machine keeps up with a model, measured before anybody talks."""

import time
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from ..audio.framing import FRAME_MS
from ..codec import make_codec
from ..engines.duplex.engine import Moshi
from ..errors import MoshiError
from ..utils.trace import Trace, percentile

_FRAMES = 16  # timed; 1.3 s of sound


@dataclass(frozen=True)
class Speed:
    """What a frame of 80 ms costs, in milliseconds.

    Attributes:
        encode, step, decode: medians of the stages.
        p50, p95: of the whole frame.
    """

    encode: float
    step: float
    decode: float
    p50: float
    p95: float

    @property
    def holds(self) -> bool:
        """Whether the model hears every frame in time."""
        return self.p95 < FRAME_MS

    @property
    def frames_per_s(self) -> float:
        return 1000 / self.p50

    def __str__(self) -> str:
        return (
            f"{self.p50:.0f} ms a frame of {FRAME_MS:.0f} (p95 {self.p95:.0f}; encode "
            f"{self.encode:.0f}, model {self.step:.0f}, decode {self.decode:.0f})"
        )


def measure(moshi: Moshi, frames: int = _FRAMES) -> Speed:
    """Warm the model up, then time it: whole frames, and then each stage alone."""
    moshi.warmup()
    totals = _frames(moshi, Trace(), frames)
    apart = Trace(apart=True)
    _frames(moshi, apart, frames // 2)
    stages = apart.summary()

    def median(name: str) -> float:
        return stages[name].p50_ms if name in stages else 0.0

    return Speed(
        encode=median("encode"),
        step=median("step"),
        decode=median("decode"),
        p50=percentile(totals, 50),
        p95=percentile(totals, 95),
    )


def _frames(moshi: Moshi, trace: Trace, count: int) -> list[float]:
    """Milliseconds of the frames of a new conversation, after the first."""
    with moshi.session(seed=0, first="silence", trace=trace) as session:
        hum = 0.01 * np.sin(np.arange(session.frame_size) / 20).astype(np.float32)
        took = []
        for _ in range(count):
            began = time.perf_counter()
            session.step(hum)
            took.append(1000 * (time.perf_counter() - began))
    return took[1:]  # the first includes the frame of silence


def with_faster_codec(moshi: Moshi, speed: Speed) -> tuple[Moshi, Speed, str | None]:
    """The same model with rustymimi, if that can hold the model's time when ours
    cannot.

    Returns: the model to use, its speed, and what to tell the user about it.
    """
    if speed.holds or find_spec("rustymimi") is None:
        return moshi, speed, None
    weights, codebooks = moshi.info.mimi_weights, moshi.info.num_codebooks
    try:
        other = Moshi(
            moshi.info,
            moshi.lm,
            moshi.tokenizer,
            lambda: make_codec("rust", weights=weights, num_codebooks=codebooks),
            moshi.owner,
            moshi.image_encoder,
        )
        found = measure(other)
    except MoshiError:  # a codec that rustymimi cannot read
        return moshi, speed, None
    if not found.holds:
        return moshi, speed, None
    return other, found, f"using the rust codec: {found}; native: {speed}."


def advice(speed: Speed, moshi: Moshi) -> str | None:
    """What to do if the machine is too slow; None if it is not."""
    if speed.holds:
        return None
    if speed.p50 < FRAME_MS:
        return (
            f"this machine is busy: {speed}. Some frames will come late; end other "
            "programs if you hear it."
        )
    ways = []
    bits = moshi.info.quantization.get("bits")
    rest = speed.encode + speed.decode
    demo = moshi.name == "demo"  # there is nothing smaller
    if not demo and speed.step > FRAME_MS / 2 and (bits is None or int(bits) > 4):
        ways.append(
            "a smaller quantisation, as --model kyutai/moshiko-mlx-q4 has (the model's "
            f"step must come down from {speed.step:.0f} to {FRAME_MS - rest:.0f} ms)"
        )
    if not demo and rest > FRAME_MS / 2:
        ways.append("the codec that runs on the CPU, --codec rust")
    if not demo:
        ways.append("--model demo, the small one that comes with the package")
    missing = max(0.0, 1000 / FRAME_MS - speed.frames_per_s)
    return (
        f"this machine is too slow for {moshi.name}: {speed}. About {missing:.1f} of "
        f"12.5 frames a second will be dropped, silence first. What would help: "
        f"{'; '.join(ways) or 'a faster one'}."
    )
