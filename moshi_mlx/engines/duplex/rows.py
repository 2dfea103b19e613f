"""Generation for a batch of unrelated rows: each samples in its own way."""

from collections.abc import Sequence

import mlx.core as mx

from ...models.depth import SpokenCodes
from ...models.generate import LmGen
from ...models.generation_state import AUDIO_CONTEXT
from ...models.lm import Lm
from ...utils.sampling import Sampler, TokenSampler, noise_size, penalise_repeats
from .sampling import MAX_REPETITION_CONTEXT, Sampling


class RowSampler:
    """Draws each row of ``[B, 1, V]`` with its own sampler; equal ones draw together.

    Args:
        samplers: one per row.
    """

    def __init__(self, samplers: Sequence[TokenSampler]):
        self.samplers = samplers
        self._groups: list[list[int]] = []
        for row, sampler in enumerate(samplers):
            alike = [g for g in self._groups if samplers[g[0]] == sampler]
            if alike:
                alike[0].append(row)
            else:
                self._groups.append([row])

    def noise_size(self, vocab: int) -> int:
        """The most values that a row needs; each row uses the first ones of its own."""
        return max(noise_size(sampler, vocab) for sampler in self.samplers)

    def __call__(
        self, logits: mx.array, noise: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        """Tokens ``[B, 1]`` and log-probabilities ``[B, 1, V]``.

        In each row, ``noise [B, 1, N]`` starts with the values for its sampler.
        """
        drawn: dict[int, tuple[mx.array, mx.array]] = {}
        for rows in self._groups:
            sampler, mine = self.samplers[rows[0]], mx.array(rows)
            size = noise_size(sampler, logits.shape[-1])
            own = () if noise is None or not size else (noise[mine, :, :size],)
            tokens, probs = sampler(logits[mine], *own)
            drawn |= {row: (tokens[i], probs[i]) for i, row in enumerate(rows)}
        ordered = [drawn[row] for row in range(len(self.samplers))]
        return mx.stack([t for t, _ in ordered]), mx.stack([p for _, p in ordered])


def _together(samplers: Sequence[TokenSampler]) -> TokenSampler:
    """One sampler for a batch."""
    alike = all(sampler == samplers[0] for sampler in samplers)
    return samplers[0] if alike else RowSampler(samplers)


class RowGen(LmGen):
    """``LmGen`` for unrelated rows: each draws what an ``LmGen`` of its own would.

    Each row has a generator of noise, used in the same portions.

    Args:
        model: the weights.
        batch_size: rows B.
        cfg_coef: guidance, the same for all rows.
    """

    def __init__(self, model: Lm, batch_size: int, cfg_coef: float = 1.0):
        super().__init__(
            model,
            batch_size=batch_size,
            cfg_coef=cfg_coef,
            seed=0,
            repetition_context=MAX_REPETITION_CONTEXT,
            reserve=True,
        )
        self.sampling = [Sampling(seed=0)] * batch_size

    def begin(self, row: int, sampling: Sampling, adapter: int = 0) -> None:
        """Make ``row`` a new conversation; the others continue.

        Args:
            sampling: with a seed, and with samplers if ``Sampler()`` does not draw.
            adapter: the number of its adapter; 0 for none.
        """
        self.reset([row], sampling.seed)
        self.sampling[row] = sampling
        self.adapters[row] = adapter
        if self.batch_size == 1:
            self.text_sampler, self.audio_sampler = self._samplers(row)

    def _samplers(self, row: int) -> tuple[TokenSampler, TokenSampler]:
        sampling = self.sampling[row]
        return sampling.text or Sampler(), sampling.audio or Sampler()

    def _noise(
        self, active: list[bool] | None
    ) -> tuple[mx.array | None, mx.array | None]:
        """Noise ``[B, 1, ...]`` of the text and of all codebooks.

        Rows that pause are drawn together with one that speaks.
        """
        if self.batch_size == 1:
            return super()._noise(active)
        speaking = [True] * self.batch_size if active is None else active
        leader = speaking.index(True)
        who = [r if on else leader for r, on in enumerate(speaking)]
        samplers = [self._samplers(r) for r in who]
        self.text_sampler = _together([text for text, _ in samplers])
        self.audio_sampler = _together([audio for _, audio in samplers])
        sizes = {r: self._sizes(r) for r in who}
        text = max(size for size, _ in sizes.values())
        audio = max(size for _, size in sizes.values())
        drawn = {r: self._draw(r, sizes[r], (text, audio)) for r in sizes}
        return (
            mx.stack([drawn[r][0] for r in who])[:, None] if text else None,
            mx.stack([drawn[r][1] for r in who])[:, None] if audio else None,
        )

    def _sizes(self, row: int) -> tuple[int, int]:
        """How many values the row's text and each of its codebooks need."""
        cfg, (text, audio) = self.model.cfg, self._samplers(row)
        return (
            noise_size(text, cfg.text_out_vocab_size),
            noise_size(audio, cfg.audio_vocab_size - 1),
        )

    def _draw(
        self, row: int, sizes: tuple[int, int], room: tuple[int, int]
    ) -> tuple[mx.array, mx.array]:
        """The row's noise for one frame, each part padded to its size in the batch."""
        (text, audio), steps = sizes, self._steps
        values = mx.zeros((0,))
        if text + steps * audio:
            values = self.noise.next(row, text + steps * audio)
        codes = values[text:].reshape(steps, audio)
        codes = mx.pad(codes, [(0, 0), (0, room[1] - audio)])
        return mx.pad(values[:text], (0, room[0] - text)), codes.flatten()

    @property
    def _penalises(self) -> bool:
        return any(sampling.repetition_penalty != 1.0 for sampling in self.sampling)

    def _spoken_lately(self) -> SpokenCodes | None:
        factors = [sampling.audio_repetition_penalty for sampling in self.sampling]
        if all(factor == 1.0 for factor in factors):
            return None
        lately = self._spoken[..., AUDIO_CONTEXT - self.audio_repetition_context :]
        return SpokenCodes(lately, mx.array(factors)[:, None, None])

    def _penalised(self, logits: mx.array) -> mx.array:
        """Make each row's last words less likely, by its own penalty and context."""
        age = mx.arange(MAX_REPETITION_CONTEXT, 0, -1)
        contexts = mx.array([s.repetition_context for s in self.sampling])[:, None]
        said = mx.where(age <= contexts, self._said, -1)
        factors = mx.array([s.repetition_penalty for s in self.sampling])
        silent = self.model.cfg.silent_text
        return penalise_repeats(logits, said, factors[:, None, None], silent)
