"""How far a quantised model's predictions are from those in full precision.

Both get the same sequences, teacher-forced, so that one different token does not change
everything after it. For the text and each codebook: the mean divergence KL(full ||
quantised) in nats, and how often the likeliest token is the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from ..errors import ConfigError
from ..models.lm import Lm, LmOutput
from ..modules.conditioner import ConditionTensor


@dataclass(frozen=True)
class Streams:
    """One recording as a model hears and says it.

    Attributes:
        codes: ``[1, 1 + n_q, T]``, text first, not delayed.
        ct, cross: its conditions.
    """

    codes: mx.array
    ct: ConditionTensor | None = None
    cross: mx.array | None = None


@dataclass(frozen=True)
class StreamQuality:
    """One stream's predictions, compared with full precision.

    Attributes:
        name: "text", or "codebook 0" and so on.
        kl: mean divergence in nats; ``kl_p95``: 95 % of the steps are below.
        top1: share of steps with the same likeliest token, 0 to 1.
        steps: number of steps compared.
    """

    name: str
    kl: float
    kl_p95: float
    top1: float
    steps: int


@dataclass(frozen=True)
class Quality:
    """All streams of a model, text first."""

    streams: list[StreamQuality]

    @property
    def text(self) -> StreamQuality:
        return self.streams[0]

    @property
    def audio_kl(self) -> float | None:
        """Mean over the codebooks; None for a model that does not speak."""
        kls = [stream.kl for stream in self.streams[1:]]
        return sum(kls) / len(kls) if kls else None

    @property
    def audio_top1(self) -> float | None:
        shares = [stream.top1 for stream in self.streams[1:]]
        return sum(shares) / len(shares) if shares else None

    def to_json(self) -> dict[str, Any]:
        return {
            "text_kl": self.text.kl,
            "text_top1": self.text.top1,
            "audio_kl": self.audio_kl,
            "audio_top1": self.audio_top1,
            "streams": [asdict(stream) for stream in self.streams],
        }


def predict(lm: Lm, sequences: Iterable[Streams]) -> list[LmOutput]:
    """A model's predictions at every step of given sequences."""
    network, found = lm.ready(), []
    for sequence in sequences:
        out = network.teacher_forced(sequence.codes, sequence.ct, sequence.cross)
        mx.eval(out.text_logits, out.text_mask)
        if out.audio_logits is not None and out.audio_mask is not None:
            mx.eval(out.audio_logits, out.audio_mask)
        found.append(out)
    return found


def compare(full: Sequence[LmOutput], other: Sequence[LmOutput]) -> Quality:
    """How far predictions are from those in full precision, stream by stream.

    Raises: ConfigError if there is no step to compare.
    """
    gathered: dict[str, list[np.ndarray]] = {}
    for one, two in zip(full, other, strict=True):
        for (name, p, mask), (_, q, _) in zip(
            _streams(one), _streams(two), strict=True
        ):
            gathered.setdefault(name, []).append(_diverge(p, q, mask))
    found = {name: np.concatenate(parts, axis=1) for name, parts in gathered.items()}
    if not all(values.shape[1] for values in found.values()):
        raise ConfigError("the recordings are too short: give some seconds of sound.")
    return Quality(
        [
            StreamQuality(
                name,
                kl=float(kl.mean()),
                kl_p95=float(np.quantile(kl, 0.95)),
                top1=float(same.mean()),
                steps=len(kl),
            )
            for name, (kl, same) in found.items()
        ]
    )


def _streams(out: LmOutput) -> Iterator[tuple[str, mx.array, mx.array]]:
    """Name, logits ``[T, V]`` and mask ``[T]`` of each stream."""
    yield "text", out.text_logits[0, 0], out.text_mask[0, 0]
    if out.audio_logits is not None and out.audio_mask is not None:
        for k in range(out.audio_logits.shape[1]):
            yield f"codebook {k}", out.audio_logits[0, k], out.audio_mask[0, k]


def _diverge(p: mx.array, q: mx.array, mask: mx.array) -> np.ndarray:
    """Divergence and agreement ``[2, steps]`` of the steps in the mask."""
    p, q = p.astype(mx.float32), q.astype(mx.float32)
    log_p = p - mx.logsumexp(p, axis=-1, keepdims=True)
    log_q = q - mx.logsumexp(q, axis=-1, keepdims=True)
    kl = mx.maximum((mx.exp(log_p) * (log_p - log_q)).sum(axis=-1), 0)
    same = mx.argmax(p, axis=-1) == mx.argmax(q, axis=-1)
    both = np.array(mx.stack([kl, same.astype(mx.float32)]))
    return both[:, np.array(mask).astype(bool)]


def computing(lm: Lm) -> Lm:
    """A model as stored, in the types that this machine computes with (in place).

    On CPU 16-bit products are ten times slower than float32's, which hold every value
    of a 16-bit file exactly.
    """
    if mx.default_device().type == mx.DeviceType.cpu:
        lm.set_dtype(mx.float32)
    elif lm.condition_provider is not None:
        lm.condition_provider.set_dtype(mx.float32)  # as always
    return lm
