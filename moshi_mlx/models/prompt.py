"""The prompt before a conversation: frames whose tokens are all known.

PersonaPlex learns its voice and its persona from frames that come before the first live
one: its own side first speaks in that voice, then says nothing while the text stream
spells out the persona. The user's side hears a constant tone.

Frame f of a prompt stands in column f of the streams, and its delayed codes in later
columns. Column 0, and each stream's first ``delay`` columns after it, hold initial
tokens instead. So frame 0 is never read: a voice loses its first 80 ms.

Source: NVIDIA/personaplex, moshi/models/lm.py (``step_system_prompts``); its call c is
our call c - 1, because its call 0 runs no network.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from .generate import LmGen
from .given import Tokens


@dataclass(frozen=True)
class Frames:
    """Frames that follow one another.

    Attributes:
        tokens: ``[1 + n_q, F]``: text, own codes, the other side's codes; not delayed.
        embedded: ``[N, D]``, read by the transformer in the first N calls instead of
            the embeddings of ``tokens``.
    """

    tokens: Tokens
    embedded: mx.array | None = None

    def __len__(self) -> int:
        return self.tokens.shape[1]


def joined(parts: Sequence[Frames]) -> Frames:
    """Prompts one after the other; only the first may be embedded."""
    tokens = np.concatenate([part.tokens for part in parts], axis=1)
    return Frames(tokens, parts[0].embedded)


def read_prompt(gen: LmGen, prompt: Frames) -> mx.array:
    """Start a new ``LmGen`` with one row after a prompt.

    All calls whose tokens are all known run at once, without the depth transformer. The
    last call hears the prompt's last frame; in it the model chooses the text, which is
    returned, and the first codes.
    """
    for _ in reading_prompt(gen, prompt):
        pass
    text, _ = gen.step(mx.array(prompt.tokens[None, gen.streams.own :, -1]))
    return text


def reading_prompt(gen: LmGen, prompt: Frames) -> Iterator[None]:
    """``read_prompt`` in steps, one per layer: other generators may run between them.

    It leaves out the last call: that is the next ``step``, with the other side's codes
    of the last frame.
    """
    own = gen.streams.own
    mine, theirs = prompt.tokens[:own], prompt.tokens[own:]
    if len(prompt) > 1:
        gen.force(mine[:1, 1:], mine[None, 1:, 1:])
        embedded = None if prompt.embedded is None else prompt.embedded[None]
        yield from gen.prefilling(theirs[None, :, :-1], embedded=embedded)
