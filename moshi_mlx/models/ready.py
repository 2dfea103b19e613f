"""The fast forms of whole networks: language model, depth transformer, codec.

Importing ``moshi_mlx.models`` registers them with ``fast.ready``. The forms of the
layers inside are in ``moshi_mlx.fast``.
"""

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn

from ..fast import form
from ..fast.compiled import Compiled, Stage
from ..fast.frame import FrameCache
from ..fast.joined import JoinedEmbedding, JoinedLinear
from ..fast.transformer import FastTransformer
from ..modules.attention import LayerCache
from ..modules.embedding import QuantizedScaledEmbedding, ScaledEmbedding
from ..modules.lora import choices
from .depformer import Choose, DepFormer, DepFormerSlice, F
from .lm import Lm
from .mimi import MOST_COMPILED, Mimi

TABLES = (ScaledEmbedding, QuantizedScaledEmbedding)


def _compile(stack: nn.Module, positions: int) -> None:
    """Compile calls of up to this many positions, if the stack is ours."""
    if isinstance(stack, FastTransformer):
        stack.compile_up_to(positions)


@form(Lm)
class FastLm(Lm):
    """Audio embeddings joined; calls of one position compiled."""

    def made_ready(self) -> None:
        self.hide_cache()  # or the copy would keep a stream's state alive
        _compile(self.transformer, 1)
        self._joined = JoinedEmbedding()
        self._compiled = Compiled()

    def embed(self, text: mx.array, audio: mx.array | None = None) -> mx.array:
        self._compiled.begin(live=text.shape[1] == 1)
        embed = partial(_embed, self.text_emb, self.audio_embs, self._joined)
        return self._compiled("embed", embed)(text, audio)


def _embed(
    table: nn.Module,
    tables: Sequence[nn.Module],
    joined: JoinedEmbedding,
    text: mx.array,
    audio: mx.array | None,
) -> mx.array:
    """``Lm.embed``, with the audio's embeddings joined."""
    x = table(text)
    return x if audio is None or not tables else x + joined(tables, audio)


@form(DepFormer)
class FastDepFormer(DepFormer):
    """The inputs of all steps are joined; each step is compiled, its cache as arrays.

    A step has the same shapes in every frame, and its state lives only within the
    frame. So its graph is built once and replayed, however tokens are drawn from its
    logits.
    """

    def made_ready(self) -> None:
        self._ours = all(
            isinstance(part, DepFormerSlice)
            and isinstance(part.transformer, FastTransformer)
            for part in self.slices
        )
        self._compiled = Compiled(choices(self))
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
            told = drawn and k > 0  # never -1
            step = self._compiled((k, told), partial(_step, part, k, length, told))
            logits, *buffers = step(token, inputs[self.input_sets[k]], *buffers)
            token = choose(k, logits)
            tokens.append(token)
        return tokens

    def compiled(self, key: Hashable, function: F) -> F:
        return cast(F, self._compiled(key, function))


def _step(
    part: DepFormerSlice,
    k: int,
    length: int,
    drawn: bool,
    token: mx.array,
    x: mx.array,
    *buffers: mx.array,
) -> tuple[mx.array, ...]:
    """One codebook: logits ``[B, 1, card]``, then the frame's keys and values.

    Args:
        k: which of ``length`` codebooks.
        drawn: whether the token was sampled, so that it is not -1.
        token: ``[B, 1]``, of the previous step.
        x: projected output of the temporal transformer ``[B, 1, d]``.
        buffers: keys and values of the previous steps, per layer; none at step 0.
    """
    known = drawn and isinstance(part.emb, TABLES)
    x = x + (part.emb.lookup(token) if known else part.emb(token))
    layers = part.transformer.layers
    caches: list[Any] = [FrameCache(length, buffer, k) for buffer in buffers]
    caches = caches or [FrameCache(length) for _ in layers]
    x = part.transformer(x, [LayerCache(cache) for cache in caches])
    return part.logits(x), *(cache.buffer for cache in caches)


@form(Mimi)
class FastMimi(Mimi):
    """Convolutions compiled as one stage each way; transformers between attentions."""

    def made_ready(self) -> None:
        self.reset_state()  # or the copy would keep a stream's state alive
        positions = MOST_COMPILED * self.cfg.resample_stride
        for stack in (self.encoder_transformer, self.decoder_transformer):
            _compile(stack.transformer, positions)
            if isinstance(stack.transformer, FastTransformer):
                stack.transformer.fold_scales()
        samples = MOST_COMPILED * self.frame_size
        self["encoder"] = Stage(self.encoder, samples)
        self["decoder"] = Stage(self.decoder, positions)
