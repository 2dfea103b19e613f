"""What a generator remembers, and how it is kept and brought back."""

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx

from ..modules.quantized_kv import QuantizedKVCache
from ..modules.ring import Ring
from ..utils.sampling import RowNoise, row_seeds
from .guidance import Guidance
from .lm import Lm
from .snapshot import Fits, Snapshot, fingerprint, kept
from .streams import TokenStreams


class GenerationState:
    """State of ``B`` conversations on one model; ``LmGen`` steps it.

    Args:
        model: the weights.
        batch_size: rows B.
        guidance: how conditions guide.
        seed: of every row, or one per row; by default drawn from MLX's generator.
        repetition_context: text tokens that a repetition penalty looks back at.
        kv_bits: 8 or 4 keeps keys and values so; by default as the model's config says.
        reserve: allocate keys and values of the whole context now.
    """

    def __init__(
        self,
        model: Lm,
        batch_size: int,
        guidance: Guidance,
        seed: int | Sequence[int] | None,
        repetition_context: int,
        kv_bits: int | None,
        reserve: bool,
    ):
        self.model = model
        self.batch_size = batch_size
        self.guidance = guidance
        self.streams = TokenStreams(model.cfg, batch_size)
        self.noise = RowNoise(row_seeds(seed, batch_size))
        self.cache = model.transformer.make_rot_cache(kv_bits)
        self._said = mx.full((batch_size, repetition_context), -1, dtype=mx.int32)
        self._completed: mx.array | None = None
        if reserve:
            self._reserve()
        mx.eval(self.streams.arrays, self.noise.arrays, self._said)  # for any thread

    def _reserve(self) -> None:
        rows = 2 * self.batch_size if self.guidance.doubles else self.batch_size
        for layer in self.cache:
            if isinstance(layer.self_attn, Ring):
                layer.self_attn.reserve(rows, self._dtype)
        mx.eval([layer.self_attn.state for layer in self.cache])

    @property
    def _dtype(self) -> mx.Dtype:
        """What the model computes in."""
        return self.model.text_emb(mx.zeros((1, 1), mx.int32)).dtype

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values held."""
        return sum(layer.self_attn.nbytes for layer in self.cache)

    def reset(self, rows: Sequence[int] | None = None, seed: int | None = None) -> None:
        """Start all rows, or the given ones, as new conversations.

        Args:
            seed: of their noise; without one their generators run on.
        """
        rows = range(self.batch_size) if rows is None else rows
        self.streams.reset(rows)
        self._completed = None
        doubled = self.guidance.doubles and bool(self.cache[0].self_attn.offset)
        for layer in self.cache:
            null = [row + self.batch_size for row in rows] if doubled else []
            layer.reset([*rows, *null])
        for row in rows:
            self._said[row] = -1
            if seed is not None:
                self.noise.reseed(row, seed)

    @property
    def fits(self) -> Fits:
        """What must be alike where a snapshot is continued."""
        cache = self.cache[0].self_attn
        return {
            "weights": fingerprint(self.model),
            "dtype": str(self._dtype).removeprefix("mlx.core."),
            "kv_bits": cache.bits if isinstance(cache, QuantizedKVCache) else None,
            "rows": self.batch_size,
            "guided": self.guidance.doubles,
        }

    @property
    def state(self) -> dict[str, Any]:
        """All that is remembered; may be set to what another generator remembered."""
        return {
            "streams": self.streams.state,
            "noise": self.noise.state,
            "cache": [layer.state for layer in self.cache],
            "masked_until": self.guidance.masked_until,
            "said": self._said,
            "completed": self._completed,
        }

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self.streams.state, self.noise.state = state["streams"], state["noise"]
        for layer, kept_layer in zip(self.cache, state["cache"], strict=True):
            layer.state = kept_layer
        self.guidance.masked_until = state["masked_until"]
        self._said, self._completed = state["said"], state["completed"]

    def snapshot(self) -> Snapshot:
        """The state as it is now. Samplers, hooks and conditions are not part of it:
        whoever continues gives the same again."""
        return Snapshot("generation", self.fits, kept(self.state))

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot: the same tokens follow as after it was taken.

        Raises: ConfigError for a snapshot of other weights or settings.
        """
        snapshot.check("generation", self.fits)
        self.state = kept(snapshot.state)
