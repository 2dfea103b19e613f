"""Whether a model fits this machine, told before anything is read."""

import os

import mlx.core as mx

from ..errors import CheckpointError

USABLE = 0.9  # of the memory; the system and the stream's own state need the rest


def machine_memory() -> int:
    """Bytes of memory that a model can use: the GPU's where MLX computes on one."""
    if mx.default_device().type == mx.DeviceType.gpu:
        info = mx.device_info()
        for key in ("max_recommended_working_set_size", "total_memory", "memory_size"):
            if isinstance(size := info.get(key), int) and size:
                return size
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(needed: int, what: str, advice: str) -> None:
    """Raise a CheckpointError where ``needed`` bytes of weights cannot fit.

    Args:
        advice: what to do, the end of the sentence.
    """
    there = machine_memory()
    if needed > USABLE * there:
        raise CheckpointError(
            f"{what} needs {needed / 1e9:.1f} GB of memory and this machine has "
            f"{there / 1e9:.1f} GB: {advice}."
        )


def fitting_moshi(memory: int | None = None) -> str:
    """The largest Moshi repository that runs within ``memory`` bytes (this machine's).

    Weights of the 7B: 8.2 GB in 8 bits, 4.8 GB in 4; codec, caches and what else runs
    need about 2 GB more. The 16-bit ones (15.4 GB) are only used by name: a step reads
    all weights, and few machines' memory can do that 12.5 times a second.
    """
    memory = machine_memory() if memory is None else memory
    return "kyutai/moshiko-mlx-q8" if memory >= 14e9 else "kyutai/moshiko-mlx-q4"
