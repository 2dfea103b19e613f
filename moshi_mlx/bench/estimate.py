"""How fast Moshi 7B would run here, without downloading it.

Two random models that differ only in their number of layers are quantised like the real
one and timed on the path that generates. The difference gives the time per weight,
without anything that is paid once per step; the other layers are added to it. On a GPU
the layers are those of the 7B. A CPU gets narrower ones, with weights that are still
too large for the shortcuts that small models take there.

Times are the best of several, taken in turns: on a busy machine everything but the
fastest run measures the other programs. On a CPU, a time is the processor time that a
call used, if that is shorter than the clock's: waiting for other programs costs none.
"""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import mlx.core as mx
import numpy as np

from ..checkpoint.cost import cost
from ..checkpoint.moshi_7b import MOSHI_7B
from ..checkpoint.quantize import materialise, quantize
from ..checkpoint.recipes import recipe_named
from ..codec.native import NativeCodec
from ..models.config import LmConfig
from ..models.lm import Lm
from ..models.mimi import Mimi, mimi_202407
from .timing import Loop

RECIPES = {"q4": 4.5, "q8": 8.5, "bf16": 16.0}  # bits of a weight, scales included
CODEBOOKS = 8
LAYERS = 1, 3  # of the models that are timed
ROUNDS = 4
CPU_SHAPE: dict[str, Any] = {
    "dim": 2048,
    "num_heads": 16,
    "text_card": 2000,
    "n_q": 4,
    "dep_q": 2,
    "card": 512,
    "depformer_num_layers": 1,
    "delays": [0, 0, 1, 0, 1],
}


def on_gpu() -> bool:
    """Whether MLX computes on a GPU here."""
    return mx.default_device().type == mx.DeviceType.gpu


def time_step(recipe: str) -> float:
    """Milliseconds of a step of Moshi 7B in one of ``RECIPES``."""
    few, many = (_model(layers, recipe) for layers in LAYERS)
    (few_ms, few_reads), (many_ms, many_reads) = _timed(few, many)
    per_weight = (many_ms - few_ms) / (many_reads - few_reads)
    if per_weight <= 0:  # other programs took longer than the layers
        per_weight = many_ms / many_reads
    return few_ms + (_reads_of_7b() - few_reads) * per_weight


def time_codec() -> float:
    """Milliseconds for a frame of the released Mimi, with random weights."""
    codec = NativeCodec(Mimi(mimi_202407(CODEBOOKS)))
    frame = np.zeros((1, 1, codec.frame_size), np.float32)
    [best] = _best([lambda: codec.decode_step(codec.encode_step(frame))])
    return best


def nbytes(recipe: str) -> float:
    """Bytes that Moshi 7B's weights take here in one of ``RECIPES``."""
    bits = RECIPES[recipe]
    if recipe == "bf16" and not on_gpu():
        bits = 32.0  # a CPU computes in float32
    return _outline_of_7b().parameters * bits / 8


def _timed(*models: Lm) -> list[tuple[float, float]]:
    """Milliseconds of a step of each model, and the weights that it reads."""
    loops = [Loop(lm.ready(), None, 1) for lm in models]
    calls = [lambda loop=loop: loop.step(loop.random_codes()) for loop in loops]
    return list(zip(_best(calls), map(_reads, models), strict=True))


def _model(layers: int, recipe: str) -> Lm:
    """A random model, with weights in the types that this machine would use."""
    gpu = on_gpu()
    config = {**MOSHI_7B, **({} if gpu else CPU_SHAPE), "num_layers": layers}
    lm = Lm(LmConfig.from_config_dict(config))
    lm.set_dtype(mx.bfloat16 if gpu else mx.float32)
    if recipe == "bf16":
        materialise(lm)
    else:
        quantize(lm, recipe=recipe_named(recipe))
    return lm


def _reads(lm: Lm) -> float:
    """The weights that a step of a model with few layers multiplies by."""
    full = Lm(lm.cfg)  # nothing of it is computed
    return sum(part.step_bytes for part in cost(full).parts.values()) / 4  # float32


@lru_cache(maxsize=1)
def _outline_of_7b() -> Any:
    return cost(Lm(LmConfig.from_config_dict(MOSHI_7B)))


def _reads_of_7b() -> float:
    return sum(part.step_bytes for part in _outline_of_7b().parts.values()) / 4


def _best(calls: Sequence[Callable[[], object]]) -> list[float]:
    """The shortest time of each call in milliseconds; the calls take turns."""
    for call in calls:  # the first call may build what the others reuse
        call()
    rounds = [[_took(call) for call in calls] for _ in range(ROUNDS)]
    return [min(times) for times in zip(*rounds, strict=True)]


def _took(call: Callable[[], object]) -> float:
    """Milliseconds that a call takes without waiting for other programs."""
    began, worked = time.perf_counter(), time.process_time()
    call()
    took, work = time.perf_counter() - began, time.process_time() - worked
    return 1000 * (took if on_gpu() else min(took, work))
