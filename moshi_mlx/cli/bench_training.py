"""`moshi-mlx bench --task finetune`: how fast random models train."""

from itertools import chain

import typer

from ..errors import ConfigError
from .outputs import print_json


def bench_training(sizes: list[str], bits: str, as_json: bool) -> None:
    """Print tokens a second and memory of some sizes."""
    from ..bench.machine import machine
    from ..bench.training import time_training

    widths = [width.strip().removeprefix("q") for width in bits.split(",")]
    if not set(widths) <= {"4", "8", "16"}:
        raise ConfigError(f"--bits {bits!r} cannot be trained over: use 4, 8 or 16.")
    results = []
    timed = (time_training(sizes, int(width)) for width in widths)
    for done in chain.from_iterable(timed):
        results.append(done)
        if not as_json:
            typer.echo(
                f"{done.size}, {done.bits} bits, rank {done.rank}, window "
                f"{done.window_s:g} s: {done.tokens_per_second:.0f} tokens/s, "
                f"{done.step_s:.2f} s a step, peak memory "
                f"{done.peak_bytes / 1e9:.2f} GB (computed before: "
                f"{done.computed_bytes / 1e9:.2f})"
            )
    if as_json:
        found = [done.to_dict() for done in results]
        print_json("bench-training", {"machine": machine(), "results": found})
