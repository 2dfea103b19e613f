"""Try the Metal kernel of ``moshi_mlx.fast.add_norm``, and say whether to turn it on.

It is compared with the plain form and timed, alone and within the steps of a narrow
model of 4 bits that has as many layers as Moshi 7B. Prints JSON; ``scripts/mac_report``
runs it.

    python -m scripts.metal_norm
"""

import json
import os
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moshi_mlx.fast import add_norm
from scripts.count_kernels import generator

WIDTHS = (1024, 4096)  # of Moshi 7B's depth and temporal transformers
DTYPES = (mx.float32, mx.float16, mx.bfloat16)
CHAIN = 151  # sums with their norms in a frame of Moshi 7B with quantised weights
ROUNDS = 15
STEPS = 40


def compare(width: int, dtype: mx.Dtype) -> dict[str, Any]:
    """How far the kernel is from the plain form, in steps of the type's last bit."""
    keys = mx.random.split(mx.random.key(width), 3)
    x, residual = (mx.random.normal((3, width), key=k).astype(dtype) for k in keys[:2])
    norm = nn.RMSNorm(width, 1e-5)
    norm.weight = (1 + 0.1 * mx.random.normal((width,), key=keys[2])).astype(dtype)
    fused = add_norm.kernel(x, residual, norm["weight"], norm.eps)
    total = residual + x
    pairs = zip(fused, (total, norm(total)), strict=True)
    apart = max(_steps_apart(*pair) for pair in pairs)
    return {"width": width, "dtype": str(dtype), "steps_apart": apart}


def _steps_apart(a: mx.array, b: mx.array) -> int:
    whole = mx.int32 if a.dtype == mx.float32 else mx.int16
    found = [np.array(array.view(whole)).astype(np.int64) for array in (a, b)]
    sign = 1 << (31 if whole == mx.int32 else 15)
    ordered = [np.where(bits < 0, -sign - bits, bits) for bits in found]
    return int(np.abs(ordered[0] - ordered[1]).max())


def microseconds(form: Callable[..., Any], width: int) -> float:
    """Of one sum with its norm, in a chain as long as a frame's, in bfloat16."""
    norm = nn.RMSNorm(width, 1e-5)
    norm.set_dtype(mx.bfloat16)
    x = mx.random.normal((1, width)).astype(mx.bfloat16)
    mx.eval(x, norm.parameters())
    times = []
    for _ in range(ROUNDS):
        total = y = x
        begun = time.perf_counter()
        for _ in range(CHAIN):
            total, y = form(y, total, norm)
        mx.eval(total, y)
        times.append(1e6 * (time.perf_counter() - begun) / CHAIN)
    return median(times)


def plain(x: mx.array, residual: mx.array, norm: nn.Module) -> tuple[Any, Any]:
    total = residual + x
    return total, norm(total)


def steps(on: bool) -> tuple[float, list[int]]:
    """Milliseconds of a step, and the text that was said."""
    os.environ[add_norm.SWITCH] = "1" if on else "0"
    mx.random.seed(0)  # the same weights both times
    gen, heard = generator("q4"), mx.zeros((1, 8), mx.int32)
    times, said = [], []
    for _ in range(STEPS):
        begun = time.perf_counter()
        text, _ = gen.step(heard)
        said.append(int(np.array(text)[0, 0]))
        mx.eval(gen.tokens)
        times.append(1000 * (time.perf_counter() - begun))
    return median(times[STEPS // 4 :]), said


def report() -> dict[str, Any]:
    """All that was found, with a verdict in words."""
    if not mx.metal.is_available():
        return {"verdict": "there is no Metal here: nothing was tried"}
    found: dict[str, Any] = {}
    try:
        found["compared"] = [compare(w, dtype) for w in WIDTHS for dtype in DTYPES]
        found["alone_us"] = {
            str(width): {
                "plain": microseconds(plain, width),
                "kernel": microseconds(add_norm.add_norm, width),
            }
            for width in WIDTHS
        }
        rounds = [(steps(False), steps(True)) for _ in range(3)]
    except Exception as error:  # what a Mac says is what this is for
        return {**found, "verdict": f"it does not run: {type(error).__name__}: {error}"}
    (off_ms, _), (on_ms, _) = (min(side) for side in zip(*rounds, strict=True))
    found["step_ms"] = {"plain": off_ms, "kernel": on_ms}
    found["same_text"] = all(off[1] == on[1] for off, on in rounds)
    apart = max(each["steps_apart"] for each in found["compared"])
    if apart > 1:
        found["verdict"] = f"leave it off: it is {apart} steps of the last bit away"
    elif on_ms >= off_ms:
        found["verdict"] = "leave it off: it is right, and a step is no faster"
    else:
        share = 100 * (1 - on_ms / off_ms)
        found["verdict"] = (
            f"turn it on: it is right, and a step is {share:.1f} % faster"
        )
    return found


def main() -> int:
    print(json.dumps(report(), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
