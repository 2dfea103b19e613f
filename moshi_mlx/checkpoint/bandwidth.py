"""Published memory bandwidths of Apple's chips, and which of them a model needs.

A step of a live model reads all its weights and computes little with each, so memory
bandwidth is the limit, not arithmetic. The conclusions are computed, not measured.
"""

from dataclasses import dataclass

from .kernels import FrameWork

STEPS_HZ = 12.5  # steps per second that keep up with live sound
ATTAINABLE = 0.7  # of a published bandwidth: what kernels that only read attain


@dataclass(frozen=True)
class Chip:
    """One chip: bandwidth in GB/s (1e9 bytes), and Apple's announcement of it."""

    name: str
    gb_per_s: float
    source: str


def _chips(source: str, **bandwidths: float) -> list[Chip]:
    names = {name: name.replace("_", " ") for name in bandwidths}
    return [Chip(names[n], value, source) for n, value in bandwidths.items()]


# Apple's newsroom and the technical specifications of the Macs announced that day, as
# others quote them: each figure was found in two or more places (2026-11-25).
CHIPS = [
    *_chips("Apple, 2020-11-10", M1=68),
    *_chips("Apple, 2021-10-18", M1_Pro=200, M1_Max=400),
    *_chips("Apple, 2022-03-08", M1_Ultra=800),
    *_chips("Apple, 2022-06-06", M2=100),
    *_chips("Apple, 2023-01-17", M2_Pro=200, M2_Max=400),
    *_chips("Apple, 2023-06-05", M2_Ultra=800),
    *_chips("Apple, 2023-10-30", M3=100, M3_Pro=150),
    Chip("M3 Max (30-core GPU)", 300, "Apple, 2023-10-30"),
    Chip("M3 Max (40-core GPU)", 400, "Apple, 2023-10-30"),
    *_chips("Apple, 2025-03-05", M3_Ultra=819),
    *_chips("Apple, 2024-05-07", M4=120),
    *_chips("Apple, 2024-10-30", M4_Pro=273),
    Chip("M4 Max (32-core GPU)", 410, "Apple, 2024-10-30"),
    Chip("M4 Max (40-core GPU)", 546, "Apple, 2024-10-30"),
    *_chips("Apple, 2025-10-15", M5=153),
    *_chips("Apple, 2026-03-03", M5_Pro=307),
    Chip("M5 Max (32-core GPU)", 460, "Apple, 2026-03-03"),
    Chip("M5 Max (40-core GPU)", 614, "Apple, 2026-03-03"),
    *_chips("Apple, 2026-08-25", M5_Ultra=1200, M6=170),
    *_chips("Apple, 2026-03-04", A18_Pro=60),  # MacBook Neo
]


@dataclass(frozen=True)
class Reach:
    """How fast a chip runs a model; computed.

    Attributes:
        steps_hz: steps per second if its whole bandwidth were used.
        verdict: "yes" if 70 % of the bandwidth is enough for live sound, "tight" if it
            needs up to all of it, "no" beyond.
        frame_ms: shortest and longest time of a frame by ``FrameWork``; None for a
            model whose kernels were not counted.
    """

    chip: Chip
    steps_hz: float
    verdict: str
    frame_ms: tuple[float, float] | None = None


def reach(step_bytes: int, kernels: int | None = None) -> list[Reach]:
    """For every chip, what reading ``step_bytes`` a step allows.

    Args:
        kernels: kernels of a frame, to compute its time as well.
    """
    found = []
    for chip in CHIPS:
        bandwidth = chip.gb_per_s * 1e9
        steps_hz = bandwidth / step_bytes
        verdict = "no" if steps_hz < STEPS_HZ else "tight"
        if ATTAINABLE * steps_hz >= STEPS_HZ:
            verdict = "yes"
        frame_ms = None
        if kernels is not None:
            work = FrameWork(kernels, step_bytes)
            frame_ms = work.milliseconds(ATTAINABLE * bandwidth)
        found.append(Reach(chip, steps_hz, verdict, frame_ms))
    return found
