"""The state of a generator, and how it is saved and restored."""

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx

from ..fast import ops
from ..modules.quantized_kv import QuantizedKVCache
from ..modules.ring import Ring
from ..utils.sampling import RowNoise, row_seeds
from .guidance import Guidance
from .lm import Lm
from .snapshot import Fits, Snapshot, fingerprint, kept
from .streams import TokenStreams

GATES = 10  # number of last layers whose gates are averaged, as in Kyutai's server

AUDIO_CONTEXT = 64  # codes of each codebook that are remembered, 5 s


class GenerationState:
    """State of ``B`` conversations on one model; ``LmGen`` steps it.

    Args:
        model: the weights.
        batch_size: rows B.
        guidance: how conditions guide.
        seed: of every row, or one per row; by default drawn from MLX's generator.
        repetition_penalty: above 1, recent words become less likely.
        repetition_context: number of text tokens that count as recent.
        kv_bits: bits of the key-value cache, 8 or 4; by default the model's config
            decides.
        reserve: allocate the key-value cache of the whole context now.
        both_sides: also generate the other side's streams that the model predicts.
    """

    def __init__(
        self,
        model: Lm,
        batch_size: int,
        guidance: Guidance,
        seed: int | Sequence[int] | None,
        repetition_penalty: float,
        repetition_context: int,
        kv_bits: int | None,
        reserve: bool,
        both_sides: bool = False,
    ):
        self.model = model
        self.batch_size = batch_size
        self.guidance = guidance
        self.repetition_penalty = repetition_penalty
        self.streams = TokenStreams(model.cfg, batch_size, both_sides)
        self.noise = RowNoise(row_seeds(seed, batch_size), ops.gumbel)
        self.cache = model.transformer.make_rot_cache(kv_bits)
        self.adapters = [0] * batch_size  # of each row, see ``RowChoice``
        self._said = mx.full((batch_size, repetition_context), -1, dtype=mx.int32)
        own = self.streams.own - 1
        self._spoken = mx.full((batch_size, own, AUDIO_CONTEXT), -1, dtype=mx.int32)
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
        """The number type of the computation."""
        return self.model.text_emb(mx.zeros((1, 1), mx.int32)).dtype

    @property
    def _network(self) -> Lm:
        """The model's fast form, as its newest generator prepared it, with the adapters
        of this generator's rows."""
        if self.model.adapters is not None:
            self.model.adapters.choose(self.adapters)
        return self.model.ready(refresh=False)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return sum(layer.self_attn.nbytes for layer in self.cache)

    @property
    def gate(self) -> mx.array | None:
        """How much each row used its condition in the latest call, ``[B]``.

        From 0 to 1, the mean over the last ten layers; None if there was no condition,
        or the model has no gates.
        """
        gates = [layer.gate for layer in self.cache[-GATES:] if layer.gate is not None]
        return mx.stack([g[:, -1] for g in gates]).mean(axis=0) if gates else None

    def reset(self, rows: Sequence[int] | None = None, seed: int | None = None) -> None:
        """Start all rows, or the given ones, as new conversations.

        Args:
            seed: of their noise; None continues their generators.
        """
        rows = range(self.batch_size) if rows is None else rows
        self.streams.reset(rows)
        self._completed = None
        doubled = self.guidance.doubles and bool(self.cache[0].self_attn.offset)
        for layer in self.cache:
            null = [row + self.batch_size for row in rows] if doubled else []
            layer.reset([*rows, *null])
        for row in rows:
            self._said[row] = self._spoken[row] = -1
            if seed is not None:
                self.noise.reseed(row, seed)

    @property
    def fits(self) -> Fits:
        """What must be equal for a snapshot to be continued."""
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
        """The whole state; may be set to the state of another generator."""
        return self._state_of(None)

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self._set_state(state, None)

    def _state_of(self, row: int | None) -> dict[str, Any]:
        rows = range(self.batch_size) if row is None else [row]
        both, until = self._both_halves(row), self.guidance.masked_until
        return {
            "streams": self.streams.snapshot(rows),
            "noise": self.noise.snapshot(rows),
            "cache": [layer.snapshot(both) for layer in self.cache],
            "masked_until": None if until is None else [until[r] for r in rows],
            "said": self._said[mx.array(list(rows))],
            "spoken": self._spoken[mx.array(list(rows))],
        }

    def _set_state(self, state: Mapping[str, Any], row: int | None) -> None:
        rows = range(self.batch_size) if row is None else [row]
        both, until = self._both_halves(row), self.guidance.masked_until
        halves = 2 if self.guidance.doubles else 1
        for layer, kept_layer in zip(self.cache, state["cache"], strict=True):
            layer.restore(kept_layer, both, halves * self.batch_size)
        self.streams.restore(state["streams"], rows)
        self.noise.restore(state["noise"], rows)
        if until is not None and state["masked_until"] is not None:
            for mine, step in zip(rows, state["masked_until"], strict=True):
                until[mine] = step
        count = min(self._said.shape[1], state["said"].shape[1])
        self._said[mx.array(list(rows)), -count:] = state["said"][:, -count:]
        if "spoken" in state:
            self._spoken[mx.array(list(rows))] = state["spoken"]
        self._completed = None
        mx.eval(self.streams.arrays, self.noise.arrays, self._said)

    def continue_from(self, state: Mapping[str, Any], row: int) -> None:
        """``restore`` without its checks, for one row: the snapshot is known to fit."""
        self._set_state(kept(state), row)

    def _both_halves(self, row: int | None) -> list[int] | None:
        """Rows of the caches that belong to one row; None for all."""
        if row is None:
            return None
        return [row, row + self.batch_size] if self.guidance.doubles else [row]

    def snapshot(self, row: int | None = None) -> Snapshot:
        """The current state of all rows, or of one.

        Samplers, hooks and conditions are not included: use the same ones to continue.
        """
        fits = self.fits if row is None else {**self.fits, "rows": 1}
        return Snapshot("generation", fits, kept(self._state_of(row)))

    def restore(self, snapshot: Snapshot, row: int | None = None) -> None:
        """Continue from a snapshot: the same tokens follow as after the snapshot.

        Args:
            row: continue a snapshot of one row in this row, while the others continue.

        Raises: ConfigError for a snapshot of other weights or settings.
        """
        fits = self.fits if row is None else {**self.fits, "rows": 1}
        snapshot.check("generation", fits)
        self._set_state(kept(snapshot.state), row)

    def _remember(self, text: mx.array, active: list[bool] | None) -> None:
        """Remember the latest words ``[B, T]``, for the repetition penalty."""
        if not self._penalises:
            return
        said = mx.concatenate([self._said, text], axis=1)[:, text.shape[1] :]
        if active is not None:
            said = mx.where(mx.array(active)[:, None], said, self._said)
        self._said = said

    def _remember_codes(self, codes: mx.array, active: list[bool] | None) -> None:
        """Remember the latest codes ``[B, own]``, for the audio repetition penalty."""
        spoken = mx.concatenate([self._spoken[..., 1:], codes[..., None]], axis=2)
        if active is not None:
            spoken = mx.where(mx.array(active)[:, None, None], spoken, self._spoken)
        self._spoken = spoken

    @property
    def _penalises(self) -> bool:
        """Whether recent words become less likely."""
        return self.repetition_penalty != 1.0

    @property
    def cfg_coef(self) -> float:
        return self.guidance.coef

    @property
    def main_codebooks(self) -> int:
        """Own audio streams."""
        return self.streams.own - 1

    @property
    def num_codebooks(self) -> int:
        """All streams: text, own and other audio."""
        return 1 + self.model.n_q

    @property
    def audio_delays(self) -> list[int]:
        return self.model.delays

    @property
    def audio_padding_token(self) -> int:
        """Initial token of every audio stream."""
        return self.model.cfg.audio_padding_token

    @property
    def max_delay(self) -> int:
        return self.model.cfg.max_delay

    @property
    def step_idx(self) -> int:
        """Number of calls so far, of the oldest row; set it to 0 to ``reset()``."""
        return max(self.streams.offsets)

    @step_idx.setter
    def step_idx(self, value: int) -> None:
        if value != 0:
            raise ValueError(f"step_idx was set to {value}: only 0 is allowed.")
        self.reset()

    @property
    def zero_token(self) -> int:
        """As input: no input. In a hook's output: not sampled, and read as zero."""
        return -1

    @property
    def ungenerated_token(self) -> int:
        """Marks what has not been generated yet."""
        return -2
