"""Whether a model fits into this machine's memory, checked before it is read."""

import os
from dataclasses import dataclass

import mlx.core as mx

from ..errors import CheckpointError, ConfigError

USABLE = 0.9  # of the memory; the system needs the rest
# What to load instead of a model that does not fit, by kind of model.
SMALLER = {
    "moshi": "kyutai/moshiko-mlx-q4",
    "hibiki": "kyutai/hibiki-1b-mlx-bf16",
    "stt": "kyutai/stt-1b-en_fr-mlx",
    "tts": "kyutai/tts-0.75b-en-public",
}


@dataclass(frozen=True)
class Footprint:
    """Bytes of memory that a running model needs.

    Attributes:
        weights: of the language model.
        session: keys and values of one session, once it is longer than the context.
        codec: weights of the codec; 0 for a model without sound.
        image: weights of the image encoder; 0 for a model that sees none.
    """

    weights: int
    session: int = 0
    codec: int = 0
    image: int = 0

    def total(self, sessions: int = 1) -> int:
        """Bytes for this many sessions at once."""
        own = self.weights + self.codec + self.image
        return own + sessions * self.session

    def sessions_that_fit(self) -> int:
        """How many sessions this machine's memory holds at once."""
        free = int(USABLE * machine_memory()) - self.total(0)
        return max(free, 0) // max(self.session, 1)

    def __str__(self) -> str:
        parts = {"weights": self.weights, "a session": self.session}
        parts |= {"codec": self.codec, "image encoder": self.image}
        return ", ".join(f"{name} {n / 1e9:.1f}" for name, n in parts.items() if n)


def machine_memory() -> int:
    """Bytes of memory that a model can use: the GPU's if MLX computes on one."""
    if mx.default_device().type == mx.DeviceType.gpu:
        info = mx.device_info()
        for key in ("max_recommended_working_set_size", "total_memory", "memory_size"):
            if isinstance(size := info.get(key), int) and size:
                return size
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(needed: int | Footprint, what: str, advice: str) -> None:
    """Raise a CheckpointError if a model does not fit into this machine's memory.

    Args:
        needed: bytes, or a ``Footprint`` for a model with one session.
        advice: what to do, as the end of the sentence.
    """
    there = machine_memory()
    parts = ""
    if isinstance(needed, Footprint):
        parts, needed = f" ({needed})", needed.total()
    if needed > USABLE * there:
        raise CheckpointError(
            f"{what} needs {needed / 1e9:.1f} GB of memory{parts} and this machine has "
            f"{there / 1e9:.1f} GB: {advice}."
        )


def check_sessions(footprint: Footprint, sessions: int, what: str) -> None:
    """Raise a ConfigError, naming the number that fits, if there is no memory for
    ``sessions`` sessions at once."""
    fit = footprint.sessions_that_fit()
    if sessions > fit:
        raise ConfigError(
            f"{sessions} sessions of {what} need "
            f"{footprint.total(sessions) / 1e9:.1f} GB of memory and this machine has "
            f"{machine_memory() / 1e9:.1f} GB: use --max-sessions {max(fit, 1)}, or "
            "--kv-bits 8, which halves the memory of a session."
        )


def how_to_fit(kind: str, quantised: bool, kv_bits: int | None) -> str:
    """Advice for a model that does not fit: the first step not yet taken.

    Args:
        kind: the checkpoint's model_type.
    """
    ways = [] if quantised else ["quantise it with '-q 4'"]
    if kv_bits is None:
        ways.append("keep keys and values in 8 bits with '--kv-bits 8'")
    smaller = SMALLER.get(kind)
    ways.append("take a smaller model" + (f", like {smaller}" if smaller else ""))
    return ", or ".join(ways)


def fitting_vis(memory: int | None = None) -> int:
    """Bits of the largest MoshiVis that runs within ``memory`` bytes (this machine's).

    To Moshi's memory come 0.4 GB of adapters and 0.8 GB of the image encoder.
    """
    memory = machine_memory() if memory is None else memory
    return 8 if memory >= 16e9 else 4


def fitting_moshi(memory: int | None = None) -> str:
    """The largest Moshi repository that runs within ``memory`` bytes (this machine's).

    The 7B's weights take 8.2 GB in 8 bits and 4.8 GB in 4; codec, caches and the rest
    need about 2 GB more. The 16-bit ones (15.4 GB) are used only by name: a step reads
    all weights, and few machines' memory can do that 12.5 times a second.
    """
    memory = machine_memory() if memory is None else memory
    return "kyutai/moshiko-mlx-q8" if memory >= 14e9 else "kyutai/moshiko-mlx-q4"
