"""One frame of the depth transformer with its draws."""

import mlx.core as mx

from ..utils.sampling import TokenSampler, draw
from .depformer import DepFormer
from .given import UNKNOWN
from .guidance import Guidance


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
    sampled: list[mx.array] = []
    size = 0 if noise is None else noise.shape[-1] // steps

    def choose(step: int, logits: mx.array) -> mx.array:
        logits = guidance.logits(logits.astype(mx.float32))
        mine = None
        if noise is not None:
            mine = noise[..., step * size : (step + 1) * size]
        token = draw(sampler, logits, mine)
        if given is not None:
            known = given[:, step : step + 1]
            token = mx.where(known == UNKNOWN, token, known)
        sampled.append(token)
        return guidance.both(token)

    depformer(hidden, guidance.both(text), choose, steps, drawn=given is None)
    return mx.stack(sampled, axis=1)
