"""Choosing a token from logits, on the device, with noise that may come from outside.

A draw is ``argmax(logits / temperature + Gumbel noise)`` over the tokens that a filter
leaves, which is exactly a draw from their renormalised softmax. Every token has its own
noise, so tokens with equal logits are equally likely. Filters compute in float32,
whatever the type of the logits.
"""

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx

from ..errors import ConfigError


def keep_top_p(logits: mx.array, top_p: float) -> mx.array:
    """-inf for all but the likeliest tokens that together reach ``top_p``."""
    probs = mx.softmax(logits, axis=-1)
    ascending = mx.sort(probs, axis=-1)
    kept = mx.cumsum(ascending, axis=-1) > 1 - top_p
    least = mx.where(kept, ascending, mx.inf).min(axis=-1, keepdims=True)
    least = mx.minimum(least, ascending[..., -1:])
    return mx.where(probs < least, -mx.inf, logits)


def keep_min_p(logits: mx.array, min_p: float, min_tokens: int) -> mx.array:
    """-inf for tokens less likely than ``min_p`` times the likeliest."""
    limit = logits.max(axis=-1, keepdims=True) + math.log(min_p)
    if min_tokens > 1:
        likeliest = mx.topk(logits, min(min_tokens, logits.shape[-1]), axis=-1)
        limit = mx.minimum(limit, likeliest.min(axis=-1, keepdims=True))
    return mx.where(logits < limit, -mx.inf, logits)


def penalise_repeats(
    logits: mx.array,
    said: mx.array,
    factor: float | mx.array,
    exempt: Sequence[int] = (),
) -> mx.array:
    """Make recent tokens less likely.

    Args:
        logits: ``[B, 1, V]``.
        said: tokens ``[B, n]``; values below 0 or not below V do not count.
        factor: positive logits are divided by it, negative ones multiplied; one for all
            rows or ``[B, 1, 1]``.
        exempt: tokens that are never penalised.
    """
    b, _, v = logits.shape
    ignored = (said < 0) | (said >= v)
    for token in exempt:
        ignored = ignored | (said == token)
    seen = mx.put_along_axis(
        mx.zeros((b, v + 1), mx.bool_),
        mx.where(ignored, v, said),
        mx.array(True),
        axis=1,
    )[:, None, :v]
    lowered = mx.where(logits > 0, logits / factor, logits * factor)
    return mx.where(seen, lowered, logits)


class TokenSampler(Protocol):
    """The protocol of samplers: to make a new one, write these two methods.

    Greedy decoding needs no noise. A callable without ``noise_size``, as in programs
    for moshi_mlx 0.3.0, gets only logits and draws in its own way.
    """

    def noise_size(self, vocab: int) -> int:
        """Number of Gumbel values that a draw from ``vocab`` tokens needs; may be 0."""
        ...

    def __call__(
        self, logits: mx.array, noise: mx.array | None = None, /
    ) -> tuple[mx.array, mx.array]:
        """Draw a token from each row.

        Args:
            logits: ``[..., V]``, float32 from ``LmGen``.
            noise: ``[..., noise_size(V)]``, independent standard Gumbel values from the
                row's own generator.

        Returns: tokens int32 ``[...]`` and log-probabilities ``[..., V]``.
        """
        ...


def noise_size(sampler: TokenSampler, vocab: int) -> int:
    """``sampler.noise_size(vocab)``, 0 for a plain callable."""
    size = getattr(sampler, "noise_size", None)
    return 0 if size is None else size(vocab)


def draw(
    sampler: TokenSampler, logits: mx.array, noise: mx.array | None = None
) -> mx.array:
    """Only the tokens; without noise the sampler gets only logits."""
    return (sampler(logits) if noise is None else sampler(logits, noise))[0]


@dataclass
class Sampler:
    """Draws one token per row of logits.

    Args:
        temp: temperature; 0 always takes the likeliest token.
        top_p: probability mass to keep, unless ``top_k`` is given; 0 or 1 keeps all.
        top_k: number of tokens to keep; 0, or more than the vocabulary has, keeps all.
        min_p: with ``top_p`` off, smallest probability relative to the likeliest token.
        min_tokens_to_keep: the number of tokens that ``min_p`` always leaves.
        logit_bias: added to the logits of the given tokens.

    Raises: ConfigError for negative values, and for fractions above 1.
    """

    temp: float = 0.8
    top_p: float = 0.95
    top_k: int | None = None
    min_p: float = 0.0
    min_tokens_to_keep: int = 1
    logit_bias: dict[int, float] | None = None

    def __post_init__(self) -> None:
        if not self.temp >= 0:  # refuses NaN too
            what = "below 0" if self.temp < 0 else "not a number"
            raise ConfigError(f"temperature {self.temp} is {what}: use 0 or more.")
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} {value} is not a fraction: use 0 to 1.")
        if self.top_k is not None and self.top_k < 0:
            raise ConfigError(
                f"top_k {self.top_k} is not a count: use 0 (all) or more."
            )
        if self.min_tokens_to_keep < 1:
            raise ConfigError("min_tokens_to_keep must be at least 1.")

    def noise_size(self, vocab: int) -> int:
        """Number of noise values that a row's draw needs; 0 if greedy."""
        if self.temp == 0:
            return 0
        return min(self.top_k, vocab) if self.top_k else vocab

    def __call__(
        self, logits: mx.array, noise: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        """Draw from ``logits [..., V]``.

        Args:
            noise: Gumbel noise ``[..., noise_size(V)]``; by default drawn from MLX's
                global generator.

        Returns: tokens int32 ``[...]`` and log-probabilities ``[..., V]`` before
            temperature and filters.
        """
        if self.logit_bias:
            bias = mx.zeros(logits.shape[-1], logits.dtype)
            bias[mx.array(list(self.logit_bias))] = mx.array(
                list(self.logit_bias.values()), dtype=logits.dtype
            )
            logits = logits + bias
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        return self.place(logits, noise).astype(mx.int32), logprobs

    def place(
        self,
        logits: mx.array,
        noise: mx.array | None = None,
        scale: float | mx.array | None = None,
    ) -> mx.array:
        """Only the token, as uint32 ``[...]``.

        Args:
            logits: ``[..., V]``, including their bias.
            noise: as in ``__call__``.
            scale: instead of ``1 / temp``.
        """
        size = self.noise_size(logits.shape[-1])
        if not size:
            return mx.argmax(logits, axis=-1)
        if noise is None:
            noise = mx.random.gumbel((*logits.shape[:-1], size))
        scale = 1 / self.temp if scale is None else scale
        if self.top_k:
            # Draw places, never values: 16-bit logits are often tied, and each of the
            # tied tokens has its own chance. Exactly top_k places are kept.
            places = mx.argpartition(logits, -size, axis=-1)[..., -size:]
            kept = mx.take_along_axis(logits, places, axis=-1)
            kept = kept.astype(mx.float32) * scale
            best = mx.argmax(kept + noise, axis=-1, keepdims=True)
            return mx.take_along_axis(places, best, axis=-1).squeeze(-1)
        scaled = logits.astype(mx.float32) * scale
        if 0 < self.top_p < 1:
            scaled = keep_top_p(scaled, self.top_p)
        elif self.min_p > 0:
            scaled = keep_min_p(scaled, self.min_p, self.min_tokens_to_keep)
        return mx.argmax(scaled + noise, axis=-1)


def new_seed() -> int:
    """A random seed, for a conversation without one."""
    return secrets.randbelow(2**31)


def row_seeds(seed: int | Sequence[int] | None, rows: int) -> list[int]:
    """A seed per row: the same for all, one each, or drawn from MLX's generator.

    Raises: ConfigError for another number of seeds, or an invalid seed.
    """
    if seed is None:
        drawn = mx.random.randint(0, 2**31 - 1, (rows,)).tolist()
        return [int(s) for s in drawn]  # type: ignore[union-attr]
    seeds = [seed] * rows if isinstance(seed, int) else list(seed)
    if len(seeds) != rows:
        raise ConfigError(f"LmGen got {len(seeds)} seeds for a batch of {rows}.")
    for one in seeds:
        if not hasattr(one, "__index__") or not 0 <= one < 2**64:
            raise ConfigError(f"LmGen got the seed {one!r}: give 0 to 2**64 - 1.")
    return seeds


Gumbel = Callable[[tuple[int, ...], mx.array], mx.array]


def _gumbel(shape: tuple[int, ...], key: mx.array) -> mx.array:
    return mx.random.gumbel(shape, key=key)


class RowNoise:
    """Noise for a batch: an independent generator per row.

    Args:
        seeds: one per row.
        gumbel: makes values of a shape from a key.
    """

    BLOCK = 64  # keys split off at once

    def __init__(self, seeds: list[int], gumbel: Gumbel = _gumbel):
        self._gumbel = gumbel
        self._next = [mx.random.key(seed) for seed in seeds]
        self._origin = list(self._next)  # for the keys in use
        self._keys: list[mx.array] = [key[None] for key in self._next]
        self._used = [self.BLOCK] * len(seeds)

    @property
    def arrays(self) -> list[mx.array]:
        """All arrays of the state, for ``mx.eval``."""
        return [*self._next, *self._origin, *self._keys]

    def snapshot(self, rows: Sequence[int]) -> dict[str, Any]:
        """A key ``[rows, 2]`` per row, and how many of the keys split from it are
        used."""
        keys, used = [], []
        for row in rows:
            begun = self._used[row] < self.BLOCK
            keys.append(self._origin[row] if begun else self._next[row])
            used.append(self._used[row] if begun else 0)
        return {"keys": mx.stack(keys), "used": used}

    def restore(self, state: Mapping[str, Any], rows: Sequence[int]) -> None:
        """Continue from a snapshot's rows."""
        for i, (row, used) in enumerate(zip(rows, state["used"], strict=True)):
            self._next[row] = state["keys"][i]
            self._split(row)
            self._used[row] = used

    def reseed(self, row: int, seed: int) -> None:
        """Restart a row's generator."""
        self._next[row] = mx.random.key(seed)
        self._used[row] = self.BLOCK

    def _split(self, row: int) -> None:
        self._origin[row] = self._next[row]
        keys = mx.random.split(self._next[row], self.BLOCK + 1)
        self._keys[row], self._next[row] = keys[: self.BLOCK], keys[-1]
        self._used[row] = 0

    def next(self, row: int, size: int, use: bool = True) -> mx.array:
        """The next ``size`` Gumbel values of a row, ``[size]``.

        Args:
            use: if false, the next call returns the same values.
        """
        if self._used[row] >= self.BLOCK:
            self._split(row)
        key = self._keys[row][self._used[row]]
        self._used[row] += use
        return self._gumbel((size,), key)

    def skip(self, row: int, count: int) -> None:
        """Continue as if the row had drawn ``count`` times."""
        for _ in range(count):
            if self._used[row] >= self.BLOCK:
                self._split(row)
            self._used[row] += 1

    def draw(self, size: int, active: list[bool] | None = None) -> mx.array:
        """The next ``size`` values of each active row, ``[B, size]``."""
        on = active or [True] * len(self._next)
        return mx.stack([self.next(row, size, use) for row, use in enumerate(on)])
