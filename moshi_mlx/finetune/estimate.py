"""The needs of a training, computed before it starts: memory from shapes, time from
work.

Nothing here was measured, except how fast this machine multiplies matrices, briefly, if
a time is asked for.
"""

import time
from dataclasses import dataclass

import mlx.core as mx

from ..checkpoint.memory import USABLE, machine_memory
from ..checkpoint.quantize import nbytes
from ..errors import ConfigError
from ..models.lm import Lm
from ..modules.lora import linear_shape
from ..modules.transformer_config import TransformerConfig
from .settings import TrainSettings
from .trainable import linear_layers
from .words import frames_of

STATE_BYTES = 16  # per trained number: itself, its gradient, Adam's two means
LOGIT_COPIES = 3  # float32 logits, their softmax, their gradient


@dataclass(frozen=True)
class Estimate:
    """Computed needs of a training.

    Attributes:
        weights: bytes of the model.
        state: bytes of the trained numbers, their gradients and the optimiser.
        activations: bytes of one micro-batch.
        flops: operations of one optimiser step.
        trained: count of trained numbers.
    """

    weights: int
    state: int
    activations: int
    flops: float
    trained: int

    @property
    def total(self) -> int:
        return self.weights + self.state + self.activations

    def check(self, settings: TrainSettings) -> None:
        """Raise a ConfigError, with advice, if the memory cannot be enough."""
        there = machine_memory()
        if self.total <= USABLE * there:
            return
        ways = []
        if not settings.grad_checkpoint:
            ways.append("add --grad-checkpoint")
        if settings.batch_size > 1:
            ways.append("lower --batch-size to 1, with more --grad-accumulation-steps")
        if settings.window > 10:
            ways.append(f"halve --window to {settings.window / 2:g}")
        if self.weights >= self.activations or not ways:
            ways.append("start from a model in 4 bits")
        raise ConfigError(
            f"this training needs about {self.total / 1e9:.1f} GB of memory (computed: "
            f"{self}) and this machine has {there / 1e9:.1f} GB: {', or '.join(ways)}."
        )

    def __str__(self) -> str:
        return (
            f"weights {self.weights / 1e9:.2f}, optimiser {self.state / 1e9:.2f}, "
            f"activations {self.activations / 1e9:.2f}"
        )


def estimate(
    lm: Lm, trained: int, settings: TrainSettings, frames: int | None = None
) -> Estimate:
    """The needs of training ``trained`` numbers of a model.

    Args:
        frames: length of the longest window, including its prompt; by default without
            one.
    """
    frames = frames_of(settings.window) if frames is None else frames
    rows = settings.batch_size * frames
    state = trained * STATE_BYTES
    if settings.grad_accumulation_steps > 1:
        state += 4 * trained  # the sum of the gradients
    products = 6 if settings.fine_tune_type == "full" else 4
    products += 2 * settings.grad_checkpoint
    work = sum(_work(path, layer) for path, layer in linear_layers(lm).items())
    flops = products * work * rows * settings.grad_accumulation_steps
    activations = _activations(lm, settings.batch_size, frames, settings)
    return Estimate(nbytes(lm), state, activations, float(flops), trained)


def _work(path: str, layer: object) -> int:
    """Multiplications of a layer in a frame."""
    if path.startswith("condition_provider"):
        return 0
    rows, columns = linear_shape(layer)  # type: ignore[arg-type]
    return rows * columns


def _activations(lm: Lm, batch: int, frames: int, settings: TrainSettings) -> int:
    size = lm.out_norm["weight"].dtype.size
    cfg, dep = lm.cfg, lm.cfg.depformer
    again = settings.grad_checkpoint
    numbers = _of_stack(cfg.transformer, batch, frames, frames, again)
    if dep.num_slices:
        steps = dep.num_slices
        inner = batch * frames
        numbers += _of_stack(dep.transformer, inner, steps, steps, again)
    logits = cfg.text_out_vocab_size + dep.num_slices * (cfg.audio_vocab_size - 1)
    return numbers * size + LOGIT_COPIES * 4 * batch * frames * logits


def _of_stack(
    cfg: TransformerConfig, batch: int, length: int, seen: int, again: bool
) -> int:
    """Count of numbers that a stack stores for its gradients."""
    dim, inner = cfg.d_model, cfg.gated_width if _gated(cfg) else cfg.dim_feedforward
    scores = cfg.num_heads * min(seen, cfg.context)
    layer = batch * length * (10 * dim + 4 * inner + 2 * scores)
    kept = batch * length * dim if again else layer
    return cfg.num_layers * kept + (layer if again else 0)


def _gated(cfg: TransformerConfig) -> bool:
    return cfg.gating not in (False, "none")


def seconds(flops: float, dtype: mx.Dtype) -> float:
    """The time of this many operations here, at the speed of one product, timed now."""
    size = 1024 if mx.default_device().type == mx.DeviceType.cpu else 4096
    a = mx.ones((size, size), dtype)
    mx.eval(a @ a)
    begun = time.perf_counter()
    mx.eval(a @ a, a @ a.T)
    took = time.perf_counter() - begun
    return flops / (4 * size**3 / took)
