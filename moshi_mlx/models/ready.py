"""The fast forms of whole networks: language model, depth transformer, codec.

They stand for their networks in ``fast.ready`` from the import of ``moshi_mlx.models``
on; those of the layers that they are made of are in ``moshi_mlx.fast``.
"""

from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..fast import form
from ..fast.compiled import Compiled, Stage
from ..fast.frame import FrameCache
from ..fast.joined import JoinedEmbedding, JoinedLinear
from ..fast.transformer import FastTransformer
from ..modules.attention import LayerCache
from ..modules.embedding import QuantizedScaledEmbedding, ScaledEmbedding
from .depformer import Choose, DepFormer, DepFormerSlice
from .lm import Lm
from .mimi import MOST_COMPILED, Mimi

TABLES = (ScaledEmbedding, QuantizedScaledEmbedding)


def _compile(stack: nn.Module, positions: int) -> None:
    """Compile calls of so few positions, if the stack is ours."""
    if isinstance(stack, FastTransformer):
        stack.compile_up_to(positions)


@form(Lm)
class FastLm(Lm):
    """Audio embeddings joined; steps of one position compiled."""

    def made_ready(self) -> None:
        self.hide_cache()  # or the copy would hold on to a stream's state
        _compile(self.transformer, 1)
        self._joined = JoinedEmbedding()

    def embed_audio(self, audio: mx.array) -> mx.array:
        return self._joined(self.audio_embs, audio)


@form(DepFormer)
class FastDepFormer(DepFormer):
    """Inputs of all steps joined; each step compiled, with its cache as arrays.

    The shapes of a step are the same in every frame, and all its state lives within the
    frame. So its graph is built once and replayed, whatever is drawn from its logits.
    """

    def made_ready(self) -> None:
        self._ours = all(
            isinstance(part, DepFormerSlice)
            and isinstance(part.transformer, FastTransformer)
            for part in self.slices
        )
        self._compiled = Compiled()
        self._joined = JoinedLinear()
        sets = range(max(self.input_sets, default=-1) + 1)
        self._firsts = [self.slices[self.input_sets.index(s)].linear_in for s in sets]

    def __call__(
        self,
        hidden: mx.array,
        text: mx.array,
        choose: Choose,
        steps: int | None = None,
        drawn: bool = True,
    ) -> list[mx.array]:
        if not self._ours:
            return super().__call__(hidden, text, choose, steps, drawn)
        inputs = self._joined(self._firsts, hidden)
        self._compiled.begin()
        length = len(self.slices)
        buffers: list[mx.array] = []
        token, tokens = text, []
        for k, part in enumerate(self.slices[:steps]):
            plain = drawn and k > 0 and isinstance(part.emb, TABLES)  # never -1
            told = part.emb.lookup(token) if plain else part.emb(token)
            step = self._compiled(k, partial(_step, part, k, length))
            logits, *buffers = step(inputs[self.input_sets[k]] + told, *buffers)
            token = choose(k, logits)
            tokens.append(token)
        return tokens


def _step(
    part: DepFormerSlice, k: int, length: int, x: mx.array, *buffers: mx.array
) -> tuple[mx.array, ...]:
    """One codebook: logits ``[B, 1, card]``, then the frame's keys and values.

    Args:
        k: which of ``length`` codebooks.
        x: input ``[B, 1, d]`` of the step.
        buffers: keys and values of the steps before, per layer; none at step 0.
    """
    layers = part.transformer.layers
    caches: list[Any] = [FrameCache(length, buffer, k) for buffer in buffers]
    caches = caches or [FrameCache(length) for _ in layers]
    x = part.transformer(x, [LayerCache(cache) for cache in caches])
    return part.logits(x), *(cache.buffer for cache in caches)


@form(Mimi)
class FastMimi(Mimi):
    """Convolutions compiled as one stage each way; transformers between attentions."""

    def made_ready(self) -> None:
        self.reset_state()  # or the copy would hold on to a stream's state
        positions = MOST_COMPILED * self.cfg.resample_stride
        for stack in (self.encoder_transformer, self.decoder_transformer):
            _compile(stack.transformer, positions)
            if isinstance(stack.transformer, FastTransformer):
                stack.transformer.fold_scales()
        samples = MOST_COMPILED * self.frame_size
        self["encoder"] = Stage(self.encoder, samples)
        self["decoder"] = Stage(self.decoder, positions)
