"""How fast a model trains: tokens a second and memory, with random weights and data."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import mlx.core as mx
import numpy as np

from ..checkpoint.memory import check_memory
from ..checkpoint.quantize import materialise, quantize
from ..errors import ConfigError
from ..finetune.estimate import estimate
from ..finetune.optimizer import CycledAdamW, OneCycle
from ..finetune.settings import TrainSettings
from ..finetune.step import TrainingStep
from ..finetune.trainable import add_adapters
from ..finetune.words import frames_of
from ..models.config import LmConfig
from ..models.lm import Lm
from .synthetic import SIZES, check_size

TRAINING_STEPS = 3  # that are timed, after one that prepares


@dataclass(frozen=True)
class TrainingSpeed:
    """What was measured of one size.

    Attributes:
        bits: of the frozen weights; 16 for full precision.
        tokens_per_second: counted tokens of text and of the model's sound.
        step_s: seconds of a step, the median.
        peak_bytes, computed_bytes: memory, as measured and as estimated before.
    """

    size: str
    bits: int
    window_s: float
    rank: int
    tokens_per_second: float
    step_s: float
    peak_bytes: int
    computed_bytes: int

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def time_training(
    sizes: Sequence[str], bits: int = 4, window: float = 10.0, rank: int = 16
) -> Iterator[TrainingSpeed]:
    """Train random models of some sizes for a few steps.

    Args:
        sizes: of ``SIZES``.
        bits: to quantise the weights to; 16 leaves them.
        window: seconds of an example.

    Raises: ConfigError for an unknown size.
    """
    for size in sizes:
        check_size(size)
    if window <= 0:
        raise ConfigError(f"a window of {window:g} s holds nothing: give more.")
    for size in sizes:
        yield _time(size, bits, window, rank)
        mx.clear_cache()


def _time(size: str, bits: int, window: float, rank: int) -> TrainingSpeed:
    lm = Lm(LmConfig.from_config_dict(SIZES[size]))
    if mx.default_device().type == mx.DeviceType.gpu:
        lm.set_dtype(mx.bfloat16)
    settings = TrainSettings(window=window, rank=rank, grad_accumulation_steps=1)
    if bits == 16:
        materialise(lm)
    else:
        quantize(lm, bits)
    trainable = add_adapters(lm, rank)
    needs = estimate(lm, trainable.size, settings)
    check_memory(needs.total, f"training {size}", "take a smaller size or window")
    adamw = CycledAdamW(settings.betas, 1e-8, settings.weight_decay)
    compiled = mx.default_device().type == mx.DeviceType.gpu
    step = TrainingStep(*(lm, trainable, adamw, OneCycle(1e-4, 100)), compiled=compiled)
    codes = _codes(lm, frames_of(window))
    step(0, [codes])
    mx.reset_peak_memory()
    times, tokens = [], 0
    for number in range(TRAINING_STEPS):
        begun = time.perf_counter()
        tokens = step(1 + number, [codes]).tokens
        times.append(time.perf_counter() - begun)
    took = float(np.median(times))
    return TrainingSpeed(
        *(size, bits, window, rank, tokens / took, took),
        *(mx.get_peak_memory(), needs.total),
    )


def _codes(lm: Lm, frames: int) -> mx.array:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, lm.cfg.audio_vocab_size - 1, (1, 1 + lm.n_q, frames))
    codes[:, 0] = rng.integers(0, lm.cfg.text_out_vocab_size, frames)
    return mx.array(codes.astype(np.int32))
