"""One frame of the depth transformer with its draws."""

from dataclasses import astuple, replace
from functools import partial

import mlx.core as mx

from ..utils.sampling import Sampler, TokenSampler, draw
from .depformer import DepFormer
from .given import UNKNOWN
from .guidance import Guidance, guided


def sample_frame(
    depformer: DepFormer,
    hidden: mx.array,
    text: mx.array,
    noise: mx.array | None,
    sampler: TokenSampler,
    guidance: Guidance,
    steps: int,
    given: mx.array | None = None,
) -> mx.array:
    """Own codes ``[B, steps, 1]``.

    Args:
        depformer: the network, in its fast form.
        hidden: ``[B, 1, D]``, 2B rows under guidance.
        text: ``[B, 1]``.
        noise: Gumbel values of all steps ``[B, 1, steps * size]``, None if greedy.
        given: codes ``[B, steps]`` that are known, taken instead of what is drawn; -2
            leaves a code to the model.
    """

    def chosen(step: int, logits: mx.array, noise: mx.array | None) -> mx.array:
        if type(sampler) is not Sampler or sampler.logit_bias:
            return _draw(sampler, guidance.coef, logits, noise)
        own = replace(sampler)  # it may be changed between frames
        key = ("draw", step, astuple(own), guidance.coef)
        function = partial(_draw, own, guidance.coef)
        return depformer.compiled(key, function)(logits, noise)

    sampled: list[mx.array] = []
    size = 0 if noise is None else noise.shape[-1] // steps

    def choose(step: int, logits: mx.array) -> mx.array:
        mine = None
        if noise is not None:
            mine = noise[..., step * size : (step + 1) * size]
        token = chosen(step, logits, mine)
        if given is not None:
            known = given[:, step : step + 1]
            token = mx.where(known == UNKNOWN, token, known)
        sampled.append(token)
        return guidance.both(token)

    depformer(hidden, guidance.both(text), choose, steps, drawn=given is None)
    return mx.stack(sampled, axis=1)


def _draw(
    sampler: TokenSampler,
    coef: float,
    logits: mx.array,
    noise: mx.array | None,
) -> mx.array:
    """A token per row ``[B, 1]`` of logits ``[B or 2B, 1, card]``."""
    return draw(sampler, guided(logits.astype(mx.float32), coef), noise)
