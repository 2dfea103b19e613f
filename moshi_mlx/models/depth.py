"""One frame of the depth transformer, with sampling."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import mlx.core as mx

from ..utils.sampling import Sampler, TokenSampler, draw, penalise_repeats
from .depformer import DepFormer
from .given import UNKNOWN
from .guidance import Guidance, guided


@dataclass(frozen=True)
class SpokenCodes:
    """Recently spoken codes of each codebook, and how much less likely they become.

    Attributes:
        codes: ``[B, own, n]``; negative ones do not count.
        factor: per row ``[B, 1, 1]``, 1 for no penalty.
    """

    codes: mx.array
    factor: mx.array


def sample_frame(
    depformer: DepFormer,
    hidden: mx.array,
    text: mx.array,
    noise: mx.array | None,
    sampler: TokenSampler,
    guidance: Guidance,
    steps: int,
    given: mx.array | None = None,
    spoken: SpokenCodes | None = None,
) -> mx.array:
    """Own codes ``[B, steps, 1]``.

    Args:
        depformer: the network, in its fast form.
        hidden: ``[B, 1, D]``; 2B rows with guidance.
        text: ``[B, 1]``.
        noise: Gumbel values of all steps ``[B, 1, steps * size]``, None if greedy.
        given: known codes ``[B, steps]``, used instead of sampled ones; -2 leaves a
            code to the model.
        spoken: recent codes, which become less likely.
    """
    sampled: list[mx.array] = []
    size = 0 if noise is None else noise.shape[-1] // steps
    draw_one = _drawing(depformer, sampler, guidance)

    def choose(step: int, logits: mx.array) -> mx.array:
        mine = None
        if noise is not None:
            mine = noise[..., step * size : (step + 1) * size]
        if spoken is not None:
            lately = guidance.both(spoken.codes[:, step])
            logits = penalise_repeats(
                logits.astype(mx.float32), lately, guidance.both(spoken.factor)
            )
        token = draw_one(step, logits, mine)
        if given is not None:
            known = given[:, step : step + 1]
            token = mx.where(known == UNKNOWN, token.astype(mx.int32), known)
        sampled.append(token)
        return guidance.both(token)

    depformer(hidden, guidance.both(text), choose, steps, drawn=given is None)
    return mx.stack(sampled, axis=1).astype(mx.int32)


def _drawing(
    depformer: DepFormer, sampler: TokenSampler, guidance: Guidance
) -> Callable[[int, mx.array, mx.array | None], mx.array]:
    """How a step's token is drawn from its logits; compiled for our own top-k."""
    if not isinstance(sampler, Sampler) or not _is_plain_top_k(sampler):

        def drawn(_: int, logits: mx.array, noise: mx.array | None) -> mx.array:
            return draw(sampler, guidance.logits(logits.astype(mx.float32)), noise)

        return drawn
    # Numbers that change from one conversation to the next are arguments: as constants,
    # each new value would be compiled in the middle of a conversation.
    scale, coef = mx.array(1 / sampler.temp), mx.array(guidance.coef)
    own = replace(sampler, temp=1.0)

    def compiled(step: int, logits: mx.array, noise: mx.array | None) -> mx.array:
        key = "draw", step, own.top_k, guidance.doubles
        function = partial(_draw, own, guidance.doubles)
        return depformer.compiled(key, function)(logits, noise, scale, coef)

    return compiled


def _is_plain_top_k(sampler: Sampler) -> bool:
    plain = type(sampler) is Sampler and not sampler.logit_bias
    return bool(plain and sampler.top_k and sampler.temp)


def _draw(
    sampler: Sampler,
    doubled: bool,
    logits: mx.array,
    noise: mx.array | None,
    scale: mx.array,
    coef: mx.array,
) -> mx.array:
    """A token per row, uint32 ``[B, 1]``, of logits ``[B or 2B, 1, card]``.

    Args:
        scale: 1 / temperature.
    """
    if doubled:
        logits = guided(logits.astype(mx.float32), coef)
    return sampler.place(logits, noise, scale)
